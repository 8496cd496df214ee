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

/** Whether the tests that need Mosquitto can run. CI sets CAUSEWAY_TEST_REQUIRE_MOSQUITTO, and then they must. */
export const hasMosquitto = MOSQUITTO !== undefined
if (!hasMosquitto && process.env['CAUSEWAY_TEST_REQUIRE_MOSQUITTO']) {
  throw new Error('mosquitto is required and not installed')
}

export interface Mosquitto {
  port: number
  url: string
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>
  /** SIGTERM; with persistence it saves its state. */
  stop(): Promise<void>
  /** On the same port, with the same state where it has persistence. */
  start(): Promise<void>
  /** SIGHUP: it reads its files again. */
  reload(): void
  /** SIGSTOP: the sockets stay open and nothing answers. */
  freeze(): void
  thaw(): void
}

export interface MosquittoOptions {
  /** Further lines of its configuration. */
  config?: string[]
  /** All of its configuration in place of ours, made for its port and a directory of its own. */
  wholeConfig?: (port: number, directory: string) => string
  /** Lines of an ACL file. */
  acl?: string[]
  persistence?: boolean
}

/** A Mosquitto process of the test's own; it ends with the test. */
export async function startMosquitto({
  config = [],
  wholeConfig,
  acl,
  persistence = false,
}: MosquittoOptions = {}): Promise<Mosquitto> {
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'causeway-mosquitto-'))
  const file = join(directory, 'mosquitto.conf')
  // As root Mosquitto changes to a user of its own, who could not read this directory.
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
