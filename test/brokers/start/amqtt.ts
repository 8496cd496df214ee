import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BrokerKind } from '../broker-process.ts'
import { cached, commandPath } from './cache.ts'

const VERSION = '0.12.1'

export const amqtt: BrokerKind = {
  name: 'amqtt',
  title: 'amqtt',
  unsupported: true,
  async install() {
    const python = commandPath('python3')
    if (python === undefined) return 'it needs Python'
    const directory = await cached(`amqtt-${VERSION}`, async (target, execute) => {
      await execute(python, ['-m', 'venv', target])
      await execute(join(target, 'bin/pip'), ['install', '-q', `amqtt==${VERSION}`])
    })
    return {
      version: VERSION,
      accounts: true,
      command({ port, directory: place, account }) {
        const config = join(place, 'amqtt.yaml')
        const passwords = join(place, 'passwords')
        if (account !== undefined) {
          const hash = spawnSync('openssl', ['passwd', '-6', account.password], { encoding: 'utf8' }).stdout.trim()
          writeFileSync(passwords, `${account.username}:${hash}\n`)
        }
        writeFileSync(
          config,
          `listeners:
  default:
    type: tcp
    bind: 127.0.0.1:${port}
plugins:
  amqtt.plugins.authentication.${
    account === undefined
      ? 'AnonymousAuthPlugin:\n    allow_anonymous: true'
      : `FileAuthPlugin:\n    password_file: ${passwords}`
  }
`,
        )
        return { file: join(directory, 'bin/amqtt'), args: ['-c', config] }
      },
    }
  },
}
