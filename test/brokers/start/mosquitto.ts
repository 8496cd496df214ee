import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BrokerKind } from '../broker-process.ts'
import { commandPath, printed } from './cache.ts'

export const mosquitto: BrokerKind = {
  name: 'mosquitto',
  title: 'Mosquitto',
  everywhere: true,
  async install() {
    const file = commandPath('mosquitto')
    if (file === undefined) return 'mosquitto is not installed (apt-get install mosquitto)'
    return {
      version: /version (\S+)/.exec(printed(file, ['-h']))?.[1] ?? 'unknown',
      accounts: true,
      command({ port, directory, account }) {
        const lines = [`listener ${port} 127.0.0.1`, `allow_anonymous ${account === undefined}`]
        // As root it changes to a user of its own, who could not read this directory.
        if (process.getuid?.() === 0) lines.push('user root')
        if (account !== undefined) {
          const passwords = join(directory, 'passwords')
          spawnSync('mosquitto_passwd', ['-b', '-c', passwords, account.username, account.password])
          lines.push(`password_file ${passwords}`)
        }
        const config = join(directory, 'mosquitto.conf')
        writeFileSync(config, `${lines.join('\n')}\n`)
        return { file, args: ['-c', config] }
      },
    }
  },
}
