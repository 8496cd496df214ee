import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { freePort } from './free-port.ts'

/** Whether redis-server is installed. In CI it must be. */
export const hasRedis = spawnSync('redis-server', ['--version']).error === undefined
if (!hasRedis && process.env['CAUSEWAY_TEST_REQUIRE_MOSQUITTO']) {
  throw new Error('redis-server is required and not installed')
}

export interface RedisServer {
  port: number
  url: string
  /** SIGKILL. Resolves when the process has ended. */
  kill(): Promise<void>
  /** Starts it again on the same port, with `persistence` with its data. */
  start(): Promise<void>
  freeze(): void
  thaw(): void
}

export interface RedisServerOptions {
  /** Writes each change to disk before it is answered. */
  persistence?: boolean
  /** More arguments, separated by spaces. */
  args?: string
  /** Listens with TLS only. */
  tls?: boolean
}

/** A redis-server process on a free port. It ends with the test. Resolves when it listens. */
export async function startRedis({
  persistence = false,
  args = '',
  tls = false,
}: RedisServerOptions = {}): Promise<RedisServer> {
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'causeway-redis-'))
  const listener = tls ? ['--port', '0', '--tls-port', `${port}`] : ['--port', `${port}`]
  const saving = persistence ? ['--appendonly', 'yes', '--appendfsync', 'always'] : ['--appendonly', 'no']
  let child: ChildProcess | undefined
  async function start(): Promise<void> {
    const words = [
      '--bind',
      '127.0.0.1',
      ...listener,
      '--dir',
      directory,
      '--save',
      '',
      ...saving,
      ...args.split(' ').filter(Boolean),
    ]
    child = spawn('redis-server', words, { stdio: 'ignore' })
    for (;;) {
      if (child.exitCode !== null) throw new Error(`redis-server exited with ${child.exitCode}`)
      const socket = connect(port, '127.0.0.1')
      const isOpen = await once(socket, 'connect').then(
        () => true,
        () => false,
      )
      socket.destroy()
      if (isOpen) return
      await delay(5)
    }
  }
  async function kill(): Promise<void> {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
  onTestFinished(async () => {
    await kill()
    rmSync(directory, { recursive: true, force: true })
  })
  await start()
  return {
    port,
    url: `${tls ? 'rediss' : 'redis'}://127.0.0.1:${port}`,
    start,
    kill,
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
  }
}
