import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import tls from 'node:tls'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { freePort } from '../support/free-port.ts'
import { createCrew, many } from './support/caller.ts'
import { sized } from './support/sizes.ts'
import { spawnHostile, startTarget, WIRES } from './support/target.ts'
import { underAttack } from './support/under-attack.ts'

const file = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')

test('item 19: methods that HTTP does not know make no warning each, over HTTP/2', async () => {
  const target = await startTarget({ wire: 'HTTP/2' })
  const logged = target.output().length
  await underAttack(target, async ({ session }) => {
    const one = await session()
    const statuses = new Set<number>()
    const methods = ['FOO', 'foo', 'GETT', 'PROPFIND', 'CONNECT-UDP', 'X'.repeat(5000), '*', 'TRACE', 'LOCK']
    await many(sized(900, 20_000), 50, AbortSignal.timeout(10_000), (index) => {
      const stream = one.request({ ':method': methods[index % methods.length]!, ':path': '/publish?topic=a' })
      stream.on('response', (answer) => statuses.add(Number(answer[':status'])))
      return new Promise<void>((resolve) => {
        stream.on('error', () => {}).once('close', () => resolve())
        stream.resume()
        setTimeout(resolve, 2000)
      })
    })
    expect.soft([...statuses].filter((status) => status < 400 || (status >= 500 && status !== 501))).toEqual([])
  })
  expect(target.output().length - logged).toBeLessThan(10_000)
})

test('item 19: methods that HTTP does not know, over HTTP/1.1', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ socket, signal }) => {
    await many(sized(200, 2000), 20, signal, async (index) => {
      const one = await socket()
      one.resume()
      const closed = new Promise((resolve) => one.once('close', resolve))
      one.write(`${['FOO', 'foo', 'PROPFIND', 'LOCK'][index % 4]} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`)
      await Promise.race([closed, delay(2000)])
    })
  })
})

// Without a key exchange of its own, whoever gets the key later reads what was recorded.
test('item 19: TLS 1.2 without forward secrecy is not accepted', async () => {
  const target = await startTarget({ wire: 'HTTP/2' })
  const handshake = (ciphers: string) =>
    new Promise<string>((resolve) => {
      const socket = tls.connect({
        port: target.port,
        host: '127.0.0.1',
        ca: target.ca!,
        servername: 'localhost',
        maxVersion: 'TLSv1.2',
        ciphers,
      })
      socket.on('secureConnect', () => {
        resolve(socket.getCipher().name)
        socket.destroy()
      })
      socket.on('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? error.message))
    })
  const weak = ['AES256-GCM-SHA384', 'AES128-GCM-SHA256', 'AES256-SHA256', 'AES128-SHA256', 'AES256-SHA', 'AES128-SHA']
  const taken: string[] = []
  for (const cipher of weak) if ((await handshake(cipher)) === cipher) taken.push(cipher)
  expect.soft(taken).toEqual([])
  expect(await handshake('ECDHE-RSA-AES128-GCM-SHA256')).toBe('ECDHE-RSA-AES128-GCM-SHA256')
})

test.each(WIRES)('item 19: a transfer coding other than chunked is a 501, over TLS or not: %s', async (wire) => {
  const target = await startTarget({ wire })
  const { socket } = createCrew(target, AbortSignal.timeout(20_000))
  const answers: Record<string, string> = {}
  for (const coding of ['gzip, chunked', 'gzip,chunked', 'deflate, chunked', 'x, chunked', 'identity, chunked']) {
    const one = await socket()
    let text = ''
    one.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    const closed = new Promise((resolve) => one.once('close', resolve))
    const auth = `Authorization: ${target.headers['authorization']}`
    one.write(
      `POST /publish?topic=a HTTP/1.1\r\nHost: 127.0.0.1\r\n${auth}\r\nTransfer-Encoding: ${coding}\r\n\r\n1\r\nx\r\n0\r\n\r\n`,
    )
    await Promise.race([closed, delay(1500)])
    answers[coding] = text.slice(9, 12)
  }
  expect(new Set(Object.values(answers)), JSON.stringify(answers)).toEqual(new Set(['501']))
})

/** What a process says that does not start. */
async function faults(settings: Record<string, string | number>): Promise<string> {
  const bridge = spawnHostile(settings)
  const started = bridge.url.then(
    () => 'started',
    () => 'exited',
  )
  if ((await started) === 'started') return 'started'
  await bridge.exited
  return bridge.output()
}

test('item 19: a broker URL with parameters, which mean nothing, is a fault', async () => {
  const port = await freePort()
  for (const url of [`mqtt://127.0.0.1:${port}?clean=false`, `mqtts://127.0.0.1:${port}/?rejectUnauthorized=false`]) {
    const said = await faults({ MQTT_URL: url })
    expect.soft(said, url).toContain('CAUSEWAY_MQTT_URL')
  }
})

test('item 19: a password with a bare % in the broker URL names the variable, and not the password', async () => {
  const said = await faults({ MQTT_URL: `mqtt://user:se%cret@127.0.0.1:${await freePort()}` })
  expect.soft(said).toContain('CAUSEWAY_MQTT_URL')
  expect.soft(said).not.toContain('se%cret')
  expect.soft(said).not.toContain('URI malformed')
})

test('item 19: the admin port listens where it is told to', async () => {
  const port = await freePort()
  const bridge = spawnHostile({ ADMIN_HOST: '127.0.0.2', ADMIN_PORT: port })
  await bridge.url
  const reaches = (host: string) =>
    new Promise<boolean>((resolve) => {
      const socket = connect(port, host)
      socket.once('connect', () => (socket.destroy(), resolve(true)))
      socket.once('error', () => resolve(false))
    })
  expect(await reaches('127.0.0.2')).toBe(true)
  expect(await reaches('127.0.0.1')).toBe(false)
})

test.each(WIRES)('item 19: one address does not take every connection, over %s', async (wire) => {
  const target = await startTarget({
    wire,
    settings: { HTTP_CONNECTIONS_MAX: 100, HTTP_CONNECTIONS_MAX_ADDRESS: 30 },
  })
  await underAttack(target, async ({ socket, polite, signal }) => {
    let open = 0
    await many(150, 30, signal, async () => {
      const one = await socket('127.0.0.2')
      if (one.destroyed) return
      open += 1
      one.resume().once('close', () => (open -= 1))
    })
    await polite.rounds(3)
    expect.soft(open).toBeLessThanOrEqual(30)
  })
})

test('item 20: Node versions with known holes are not supported', () => {
  const { engines } = JSON.parse(file('package.json')) as { engines: { node: string } }
  expect.soft(engines.node).toMatch(/^>=20\.(2\d|[3-9]\d)/)
  for (const [, version] of file('Dockerfile').matchAll(/^FROM node:(\d+)/gm)) {
    expect.soft(Number(version)).toBeGreaterThanOrEqual(24)
  }
})

test.runIf(process.versions.node.startsWith('20.'))(
  'item 20: a Node without security fixes is one warning at the start',
  async () => {
    const target = await startTarget()
    await delay(500)
    const warnings = target
      .output()
      .split('\n')
      .filter((line) => line.startsWith('{"level":40') && /node/i.test(line))
    expect(warnings).toHaveLength(1)
  },
)
