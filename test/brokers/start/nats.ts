import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BrokerKind, Installed } from '../broker-process.ts'
import { commandPath, printed } from './cache.ts'
import { fromGo } from './go.ts'

const LATEST = '2.15.3'

/** After this, NATS sends again what is not acknowledged. With its default of 30 s the brief checks took five minutes. */
const BRIEF_ACK_WAIT = '10s'

export const nats: BrokerKind = {
  name: 'nats',
  title: 'NATS',
  everywhere: true,
  async install({ isBrief }) {
    const file = commandPath('nats-server')
    if (file === undefined) return 'nats-server is not installed (apt-get install nats-server)'
    return natsServer(file, isBrief)
  },
}

export const natsLatest: BrokerKind = {
  name: 'nats-latest',
  title: 'NATS',
  async install({ isBrief }) {
    const file = await fromGo({ name: 'nats', version: LATEST, module: 'github.com/nats-io/nats-server/v2' })
    return file === undefined ? 'it needs Go' : natsServer(file, isBrief)
  },
}

function natsServer(file: string, isBrief: boolean): Installed {
  return {
    version: /v(\d\S+)/.exec(printed(file, ['--version']))?.[1] ?? 'unknown',
    accounts: true,
    command({ port, directory, account }) {
      const config = join(directory, 'nats.conf')
      const users =
        account === undefined ? '' : `authorization { user: ${account.username}, password: ${account.password} }\n`
      const ackWait = isBrief ? `, ack_wait: "${BRIEF_ACK_WAIT}"` : ''
      writeFileSync(
        config,
        `server_name: causeway${port}
listen: "127.0.0.1:-1"
jetstream { store_dir: "${join(directory, 'jetstream')}" }
mqtt { host: 127.0.0.1, port: ${port}${ackWait} }
${users}`,
      )
      return { file, args: ['-c', config] }
    },
  }
}
