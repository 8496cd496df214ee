import type { BrokerKind } from '../broker-process.ts'
import { fromGo } from './go.ts'

const VERSION = '2.7.9'

export const mochi: BrokerKind = {
  name: 'mochi',
  title: 'mochi',
  async install() {
    const file = await fromGo({
      name: 'mochi',
      version: VERSION,
      module: 'github.com/mochi-mqtt/server/v2',
      program: 'mochi.go',
    })
    if (file === undefined) return 'it needs Go'
    return {
      version: VERSION,
      accounts: true,
      command: ({ port, directory, account }) => ({
        file,
        args: [String(port), directory, ...(account === undefined ? [] : [account.username, account.password])],
      }),
    }
  },
}
