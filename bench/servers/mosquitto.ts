import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../test/support/free-port.ts'
import type { Stage } from '../stage.ts'

const MOSQUITTO = ['mosquitto', '/usr/sbin/mosquitto'].find((path) => spawnSync(path, ['-h']).error === undefined)

export const hasMosquitto = MOSQUITTO !== undefined

/** A Mosquitto with its default settings and these lines of configuration. Resolves when it listens. */
export async function startMosquitto(
  stage: Stage,
  config: string[] = [],
): Promise<{ port: number; url: string; pid: number }> {
  if (MOSQUITTO === undefined) throw new Error('mosquitto is not installed')
  const port = await freePort()
  const file = join(stage.directory(), 'mosquitto.conf')
  // Started as root, Mosquitto would change to the user `mosquitto`, who cannot read this directory.
  const user = process.getuid?.() === 0 ? ['user root'] : []
  writeFileSync(
    file,
    `${[`listener ${port} 127.0.0.1`, 'allow_anonymous true', 'log_dest none', ...user, ...config].join('\n')}\n`,
  )
  const { pid } = await stage.program(MOSQUITTO, ['-c', file], port)
  return { port, url: `mqtt://127.0.0.1:${port}`, pid: pid! }
}
