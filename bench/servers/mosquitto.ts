import { type ChildProcess, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../../test/support/free-port.ts'
import type { Stage } from '../stage.ts'

const MOSQUITTO = ['mosquitto', '/usr/sbin/mosquitto'].find((path) => spawnSync(path, ['-h']).error === undefined)

export const hasMosquitto = MOSQUITTO !== undefined

export interface Mosquitto {
  port: number
  url: string
  pid: number
}

/** A Mosquitto with its default settings and these lines of configuration. Resolves when it listens. */
export async function startMosquitto(stage: Stage, config: string[] = []): Promise<Mosquitto> {
  const { port, start } = await configure(stage, config)
  const { pid } = await start()
  return { port, url: `mqtt://127.0.0.1:${port}`, pid: pid! }
}

/**
 * A Mosquitto that keeps its sessions and messages over a restart. For a session that is away for a moment it keeps any
 * number of messages, not 1,000.
 */
export async function startLastingMosquitto(
  stage: Stage,
): Promise<Mosquitto & { beAway(seconds: number): Promise<void> }> {
  const state = ['persistence true', `persistence_location ${stage.directory()}/`, 'max_queued_messages 0']
  const { port, start } = await configure(stage, state)
  let process = await start()
  return {
    port,
    url: `mqtt://127.0.0.1:${port}`,
    pid: process.pid!,
    /** Ends it as systemd would, and starts it again so much later. Resolves when it listens. */
    async beAway(seconds) {
      process.kill('SIGTERM')
      await once(process, 'exit')
      await delay(seconds * 1000)
      process = await start()
    },
  }
}

async function configure(stage: Stage, config: string[]): Promise<{ port: number; start(): Promise<ChildProcess> }> {
  if (MOSQUITTO === undefined) throw new Error('mosquitto is not installed')
  const port = await freePort()
  const file = join(stage.directory(), 'mosquitto.conf')
  // Started as root, Mosquitto would change to the user `mosquitto`, who cannot read this directory.
  const user = process.getuid?.() === 0 ? ['user root'] : []
  writeFileSync(
    file,
    `${[`listener ${port} 127.0.0.1`, 'allow_anonymous true', 'log_dest none', ...user, ...config].join('\n')}\n`,
  )
  return { port, start: () => stage.program(MOSQUITTO, ['-c', file], port) }
}
