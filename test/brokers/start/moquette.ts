import type { BrokerKind } from '../broker-process.ts'
import { fromMaven } from './maven.ts'

const VERSION = '0.17'

export const moquette: BrokerKind = {
  name: 'moquette',
  title: 'Moquette',
  startMs: 120_000,
  async install() {
    const command = await fromMaven({
      name: 'moquette',
      version: VERSION,
      artifacts: [`io.moquette:moquette-broker:${VERSION}`],
      program: 'Moquette.java',
    })
    return typeof command === 'string' ? command : { version: VERSION, accounts: true, command }
  },
}
