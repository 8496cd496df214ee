import type { BrokerKind } from '../broker-process.ts'
import { fromMaven } from './maven.ts'

const VERSION = '5.18.6'

export const activemq: BrokerKind = {
  name: 'activemq',
  title: 'ActiveMQ',
  startMs: 120_000,
  async install() {
    const command = await fromMaven({
      name: 'activemq',
      version: VERSION,
      artifacts: [
        `org.apache.activemq:activemq-mqtt:${VERSION}`,
        `org.apache.activemq:activemq-jaas:${VERSION}`,
        `org.apache.activemq:activemq-kahadb-store:${VERSION}`,
      ],
      program: 'Activemq.java',
    })
    return typeof command === 'string' ? command : { version: VERSION, accounts: true, command }
  },
}
