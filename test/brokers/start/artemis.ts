import type { BrokerKind } from '../broker-process.ts'
import { fromMaven } from './maven.ts'

const VERSION = '2.44.0'

export const artemis: BrokerKind = {
  name: 'artemis',
  title: 'Artemis',
  startMs: 120_000,
  async install() {
    const command = await fromMaven({
      name: 'artemis',
      version: VERSION,
      artifacts: [
        `org.apache.activemq:artemis-server:${VERSION}`,
        `org.apache.activemq:artemis-mqtt-protocol:${VERSION}`,
      ],
      exclusions: ['org.apache.activemq:artemis-unit-test-support'],
      program: 'Artemis.java',
    })
    return typeof command === 'string' ? command : { version: VERSION, accounts: true, command }
  },
}
