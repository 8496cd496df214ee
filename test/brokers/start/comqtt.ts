import type { BrokerKind } from '../broker-process.ts'
import { freePort } from '../../support/free-port.ts'
import { fromGo } from './go.ts'

const VERSION = '2.6.0'

export const comqtt: BrokerKind = {
  name: 'comqtt',
  title: 'comqtt',
  async install() {
    const file = await fromGo({
      name: 'comqtt',
      version: VERSION,
      module: 'github.com/wind-c/comqtt/v2',
      command: '/cmd/single',
    })
    if (file === undefined) return 'it needs Go'
    return {
      version: VERSION,
      accounts: false,
      async command({ port }) {
        const others = await Promise.all(
          ['ws', 'http'].map(async (name) => [`-${name}`, `127.0.0.1:${await freePort()}`]),
        )
        return {
          file,
          args: ['-tcp', `127.0.0.1:${port}`, ...others.flat(), '-storage-way', '0', '-log-enable=false'],
        }
      },
    }
  },
}
