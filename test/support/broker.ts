import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { freePort } from './free-port.ts'

const MOSQUITTO = ['mosquitto', '/usr/sbin/mosquitto'].find((path) => spawnSync(path, ['-h']).error === undefined)

/**
 * Whether Mosquitto is installed. CI sets CAUSEWAY_TEST_REQUIRE_MOSQUITTO, so that no test is skipped for want of it.
 */
export const hasMosquitto = MOSQUITTO !== undefined
if (!hasMosquitto && process.env['CAUSEWAY_TEST_REQUIRE_MOSQUITTO']) {
  throw new Error('mosquitto is required and not installed')
}

export interface Mosquitto {
  port: number
  url: string
  /** SIGKILL. Resolves when the process has ended. */
  kill(): Promise<void>
  /** SIGTERM: with `persistence` Mosquitto saves its state. Resolves when the process has ended. */
  stop(): Promise<void>
  /** Starts it again on the same port, with `persistence` from its saved state. Resolves when it listens. */
  start(): Promise<void>
  /** SIGHUP: Mosquitto reads its files again. */
  reload(): void
  /** SIGSTOP: its sockets stay open and it answers nothing, until `thaw`. */
  freeze(): void
  /** SIGCONT. */
  thaw(): void
}

export interface MosquittoOptions {
  /** Lines added to the configuration. */
  config?: string[]
  /** Replaces the configuration. Gets the port to listen on and a directory that is deleted with the test. */
  wholeConfig?: (port: number, directory: string) => string
  /** Lines of an ACL file. */
  acl?: string[]
  persistence?: boolean
}

/** A Mosquitto process on a free port. It ends with the test. Resolves when it listens. */
export async function startMosquitto({
  config = [],
  wholeConfig,
  acl,
  persistence = false,
}: MosquittoOptions = {}): Promise<Mosquitto> {
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'causeway-mosquitto-'))
  const file = join(directory, 'mosquitto.conf')
  // Started as root, Mosquitto would change to the user `mosquitto`, who cannot read this directory.
  const user = process.getuid?.() === 0 ? ['user root'] : []
  const lines =
    wholeConfig === undefined
      ? [`listener ${port} 127.0.0.1`, 'allow_anonymous true', ...user, ...config]
      : [wholeConfig(port, directory), ...user]
  if (persistence) lines.push('persistence true', `persistence_location ${directory}/`)
  if (acl !== undefined) {
    writeFileSync(join(directory, 'acl'), `${acl.join('\n')}\n`)
    lines.push(`acl_file ${join(directory, 'acl')}`)
  }
  writeFileSync(file, `${lines.join('\n')}\n`)

  let child: ChildProcess | undefined
  async function start(): Promise<void> {
    child = spawn(MOSQUITTO!, ['-c', file], { stdio: 'ignore' })
    await listening(port, child)
  }
  async function end(signal: NodeJS.Signals): Promise<void> {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill(signal)
    if (signal === 'SIGTERM') child.kill('SIGCONT')
    await exited
  }

  onTestFinished(async () => {
    await end('SIGKILL')
    rmSync(directory, { recursive: true, force: true })
  })
  await start()
  return {
    port,
    url: `mqtt://127.0.0.1:${port}`,
    start,
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    reload: () => void child?.kill('SIGHUP'),
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
  }
}

async function listening(port: number, child: ChildProcess): Promise<void> {
  while (child.exitCode === null) {
    const socket = connect(port, '127.0.0.1')
    const [event] = await Promise.race([
      once(socket, 'connect').then(() => ['connect']),
      once(socket, 'error').then(() => ['error']),
    ]).catch(() => ['error'])
    socket.destroy()
    if (event === 'connect') return
    await delay(5)
  }
  throw new Error(`mosquitto exited with ${child.exitCode}`)
}
