import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { BrokerKind } from '../broker-process.ts'

/** The bridge's own: the process of the broker is a bridge. */
export const embedded: BrokerKind = {
  name: 'embedded',
  title: 'Embedded broker',
  everywhere: true,
  embedded: true,
  async install() {
    const file = fileURLToPath(new URL('../../../package.json', import.meta.url))
    const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string }
    return {
      version,
      accounts: false,
      command: ({ port }) => ({
        file: process.execPath,
        args: [fileURLToPath(new URL('../../../dist/main.js', import.meta.url))],
        env: { CAUSEWAY_MQTT_URL: 'embedded:', CAUSEWAY_EMBEDDED_PORT: String(port), CAUSEWAY_HTTP_PORT: '0' },
      }),
    }
  },
}
