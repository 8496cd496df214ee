import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { Agent, get as getHttp, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { createAuthority } from '../support/certificates.ts'
import { distFile } from '../support/dist.ts'
import { freePort } from '../support/free-port.ts'
import { plainEnvironment } from '../support/plain-environment.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

const post = (url: string) => fetch(`${url}/publish?topic=a`, { method: 'POST', body: 'x' })

describe('from SIGTERM on', () => {
  test('everything is served for the time of draining, unready, and each answer closes its connection', async () => {
    const bridge = spawnBridge({ DRAIN_MS: 3000 })
    const url = await bridge.url
    expect((await post(url)).headers.get('connection')).toBe('keep-alive')
    bridge.kill('SIGTERM')
    await expect.poll(async () => (await fetch(`${url}/readyz`)).status, { interval: 20 }).toBe(503)
    for (const answer of [await post(url), await fetch(`${url}/livez`), await fetch(`${url}/nowhere`)]) {
      expect([answer.status, answer.headers.get('connection')]).toEqual([
        answer.url.endsWith('nowhere') ? 404 : 200,
        'close',
      ])
    }
    expect(await bridge.exited).toEqual({ code: 0, signal: null })
  })

  test('no connection without a request holds up the exit', async () => {
    // Were it held up by any of these, the test would time out.
    const bridge = spawnBridge({ SHUTDOWN_MS: 600_000, KEEPALIVE_TIMEOUT_MS: 600_000, HEADERS_TIMEOUT_MS: 600_000 })
    const url = await bridge.url
    const agent = new Agent({ keepAlive: true })
    onTestFinished(() => agent.destroy())
    const [used] = (await once(getHttp(`${url}/livez`, { agent }), 'response')) as [IncomingMessage]
    used.resume()
    await once(used, 'end')
    // Opened ahead of time, and never used.
    const unused = connect(Number(new URL(url).port), '127.0.0.1').on('error', () => {})
    onTestFinished(() => void unused.destroy())
    await once(unused, 'connect')
    bridge.kill('SIGTERM')
    expect(await bridge.exited).toEqual({ code: 0, signal: null })
  })

  test('a second signal ends the draining at once', async () => {
    const bridge = spawnBridge({ DRAIN_MS: 600_000 })
    await bridge.url
    bridge.kill('SIGTERM')
    await expect.poll(() => bridge.stdout()).toContain('serving for')
    bridge.kill('SIGTERM')
    expect(await bridge.exited).toEqual({ code: 1, signal: null })
  })
})

/** A bridge whose log goes to this descriptor. It ends with the test. */
function spawnWithStdout(port: number, stdout: number | 'pipe') {
  const child = spawn(process.execPath, [distFile('main.js')], {
    env: {
      ...plainEnvironment(),
      CAUSEWAY_HTTP_PORT: String(port),
      CAUSEWAY_EMBEDDED_PORT: '0',
      CAUSEWAY_SHUTDOWN_MS: '5000',
    },
    stdio: ['ignore', stdout, 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  return child
}

async function untilAlive(port: number): Promise<void> {
  await expect
    .poll(
      () =>
        fetch(`http://127.0.0.1:${port}/livez`).then(
          ({ status }) => status,
          () => 0,
        ),
      { timeout: 30_000 },
    )
    .toBe(200)
}

describe('whatever becomes of the log', () => {
  test('SIGTERM ends the process when nobody reads the pipe any more', async () => {
    const port = await freePort()
    const child = spawnWithStdout(port, 'pipe')
    await untilAlive(port)
    child.stdout!.destroy()
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
  })

  test('the process starts, serves and ends although the pipe is full', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'causeway-log-'))
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
    const path = join(directory, 'log')
    execFileSync('mkfifo', [path])
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const filler = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
    const writer = openSync(path, constants.O_WRONLY)
    onTestFinished(() => [reader, filler, writer].forEach(closeSync))
    for (let isFull = false; !isFull;) {
      try {
        writeSync(filler, Buffer.alloc(4096, '.'))
      } catch {
        isFull = true
      }
    }
    const port = await freePort()
    const child = spawnWithStdout(port, writer)
    await untilAlive(port)
    expect((await post(`http://127.0.0.1:${port}`)).status).toBe(200)
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
  })
})

describe('the health check of the image', () => {
  async function check(settings: Record<string, string>): Promise<number | null> {
    const env = Object.entries(settings).map(([name, value]) => [`CAUSEWAY_${name}`, value] as const)
    const child = spawn(resolve(import.meta.dirname, '../../deploy/healthcheck'), {
      env: { ...plainEnvironment(), ...Object.fromEntries(env) },
      stdio: 'inherit',
    })
    const [code] = (await once(child, 'exit')) as [number | null]
    return code
  }

  test('finds a bridge with authentication and HTTPS healthy, and one that is gone not', async () => {
    const authority = createAuthority()
    onTestFinished(() => authority.remove())
    const { cert, key } = authority.issue('bridge')
    const settings = {
      ...tokenFile([makeToken('one', ['#'])]).settings,
      HTTP_CERT_FILE: cert,
      HTTP_KEY_FILE: key,
      HTTP_PORT: String(await freePort()),
      HTTP_HOST: '0.0.0.0',
    } as Record<string, string>
    const bridge = spawnBridge(settings)
    await expect.poll(() => check(settings), { timeout: 30_000, interval: 500 }).toBe(0)
    bridge.kill('SIGKILL')
    await bridge.exited
    expect(await check(settings)).toBeGreaterThan(0)
  })

  test('asks the admin port where there is one', async () => {
    const port = String(await freePort())
    const settings = { ADMIN_PORT: port, ADMIN_HOST: '127.0.0.2' }
    const bridge = spawnBridge(settings)
    await bridge.url
    expect(await check(settings)).toBe(0)
    expect(await check({ ADMIN_PORT: port })).toBeGreaterThan(0)
  })
})

test('a limit of connections that does not fit the descriptors is a fault, and a default one is lowered', async () => {
  const start = (more: Record<string, string>) =>
    spawn('bash', ['-c', `ulimit -n 200; exec ${process.execPath} ${distFile('main.js')}`], {
      env: { ...plainEnvironment(), CAUSEWAY_HTTP_PORT: '0', CAUSEWAY_EMBEDDED_PORT: '0', ...more },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  const given = start({ CAUSEWAY_HTTP_CONNECTIONS_MAX: '1000' })
  onTestFinished(() => void given.kill('SIGKILL'))
  let said = ''
  given.stderr.setEncoding('utf8').on('data', (chunk: string) => (said += chunk))
  expect(await once(given, 'close')).toEqual([1, null])
  expect(said).toContain('CAUSEWAY_HTTP_CONNECTIONS_MAX: expected at most 142, as ulimit -n is 200')

  const byDefault = start({})
  onTestFinished(() => void byDefault.kill('SIGKILL'))
  let log = ''
  byDefault.stdout.setEncoding('utf8').on('data', (chunk: string) => (log += chunk))
  await expect.poll(() => log, { timeout: 20_000 }).toContain('docs:')
  expect(log).toContain('CAUSEWAY_HTTP_CONNECTIONS_MAX is 142')
  const { port } = new URL(/metrics: +(http:\S+)\/metrics/.exec(log)![1]!)
  // More clients than descriptors: the bridge still answers whoever is let in.
  const sockets = Array.from({ length: 300 }, () => connect(Number(port), '127.0.0.1').on('error', () => {}))
  onTestFinished(() => sockets.forEach((socket) => void socket.destroy()))
  await delay(0)
  for (const socket of sockets) socket.destroy()
  await untilAlive(Number(port))
})
