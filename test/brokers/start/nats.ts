import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BrokerKind, Installed } from '../broker-process.ts'
import { commandPath, printed } from './cache.ts'
import { fromGo } from './go.ts'

const LATEST = '2.15.3'

export const nats: BrokerKind = {
  name: 'nats',
  title: 'NATS',
  everywhere: true,
  async install() {
    const file = commandPath('nats-server')
    if (file === undefined) return 'nats-server is not installed (apt-get install nats-server)'
    return natsServer(file)
  },
}

export const natsLatest: BrokerKind = {
  name: 'nats-latest',
  title: 'NATS',
  async install() {
    const file = await fromGo({ name: 'nats', version: LATEST, module: 'github.com/nats-io/nats-server/v2' })
    return file === undefined ? 'it needs Go' : natsServer(file)
  },
}

function natsServer(file: string): Installed {
  return {
    version: /v(\d\S+)/.exec(printed(file, ['--version']))?.[1] ?? 'unknown',
    accounts: true,
    command({ port, directory, account }) {
      const config = join(directory, 'nats.conf')
      const users =
        account === undefined ? '' : `authorization { user: ${account.username}, password: ${account.password} }\n`
      writeFileSync(
        config,
        `server_name: causeway${port}
listen: "127.0.0.1:-1"
jetstream { store_dir: "${join(directory, 'jetstream')}" }
mqtt { host: 127.0.0.1, port: ${port} }
${users}`,
      )
      return { file, args: ['-c', config] }
    },
  }
}
