import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BrokerKind } from '../broker-process.ts'
import { cached, commandPath } from './cache.ts'

const VERSION = '0.20.0'

export const rumqttd: BrokerKind = {
  name: 'rumqttd',
  title: 'rumqttd',
  async install() {
    if (commandPath('cargo') === undefined) return 'it needs Rust (cargo)'
    const directory = await cached(`rumqttd-${VERSION}`, async (target, execute) => {
      // Not with its lock file: its `metrics` does not build with newer compilers.
      await execute('cargo', ['install', 'rumqttd', '--version', VERSION, '--root', target])
    })
    return {
      version: VERSION,
      accounts: true,
      command({ port, directory: place, account }) {
        const config = join(place, 'rumqttd.toml')
        const login = account === undefined ? '' : `auth = { ${account.username} = "${account.password}" }`
        // A listener speaks one protocol: MQTT 5 here.
        writeFileSync(
          config,
          `id = 0
[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5"
listen = "127.0.0.1:${port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
${login}
`,
        )
        return { file: join(directory, 'bin/rumqttd'), args: ['-c', config] }
      },
    }
  },
}
