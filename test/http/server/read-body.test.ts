import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { send } from '../../support/http.ts'
import { frame, openRaw, postHeaders } from '../../support/raw-http2.ts'
import { startSecureBridge } from '../../support/secure-bridge.ts'

const held = (bridge: Pick<Bridge, 'adminUrl'>) => metric(bridge, 'causeway_held_bytes{purpose="bodies"}')

async function dial({ url }: Bridge): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1').on('error', () => {})
  onTestFinished(() => void socket.destroy())
  await once(socket, 'connect')
  return socket
}

const begin = (path: string, type: string) =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`

test.each([
  ['a payload', '/publish?topic=a', 'text/plain'],
  ['JSON', '/publish', 'application/json'],
  ['an array', '/publish/batch', 'application/json'],
  ['a line', '/publish/batch', 'application/x-ndjson'],
])('what has arrived of %s is held in one buffer, and given back with its client', async (_name, path, type) => {
  const bridge = await startBridge()
  const socket = await dial(bridge)
  socket.write(begin(path, type) + '8\r\nxxxxxxxx\r\n'.repeat(2500))
  await expect.poll(() => held(bridge)).toBeGreaterThanOrEqual(20_000)
  // Pieces kept as they come would take 65 bytes each.
  expect(await held(bridge)).toBeLessThan(100_000)
  socket.destroy()
  await expect.poll(() => held(bridge)).toBe(0)
})

test('what has arrived over HTTP/2 is held, and given back with its client', async () => {
  const bridge = await startSecureBridge()
  const socket = await openRaw(bridge.url, bridge.ca)
  socket.write(postHeaders('/publish?topic=a', { 'content-type': 'text/plain' }))
  for (let index = 0; index < 500; index += 1) socket.write(frame('data', 'xxxxxxxxxx'))
  await expect.poll(() => held(bridge)).toBeGreaterThanOrEqual(5000)
  socket.destroy()
  await expect.poll(() => held(bridge)).toBe(0)
})

test.each([
  ['bodies', '/publish?topic=a', 'text/plain', / 503 .*"code":"overloaded"/s],
  ['lines', '/publish/batch', 'application/x-ndjson', /"status":503.*"code":"overloaded"/s],
])('where there is no room for more %s, one is refused, and others go on', async (_name, path, type, refusal) => {
  const bridge = await startBridge({ MEMORY_BYTES: 16_777_216, BODY_LIMIT_BYTES: 5_000_000 })
  const piece = 'x'.repeat(900_000)
  const chunk = `${piece.length.toString(16)}\r\n${piece}\r\n`
  const answers: string[] = []
  const sockets = await Promise.all(Array.from({ length: 16 }, () => dial(bridge)))
  for (const [index, socket] of sockets.entries()) {
    answers[index] = ''
    socket.setEncoding('utf8').on('data', (text: string) => (answers[index] += text))
    socket.write(begin(path, type) + chunk.repeat(2))
  }
  await expect.poll(() => answers.filter((answer) => refusal.test(answer)).length).toBeGreaterThan(0)
  // The metrics are an answer of the same caller, for which there may be no room at first either.
  const heldNow = () => held(bridge).catch(() => Infinity)
  await expect.poll(heldNow).toBeLessThanOrEqual(16_777_216)
  // One piece that is the whole body is never kept, so small requests need no room.
  expect((await send(bridge, 'POST', '/publish?topic=a', {}, 'x')).status).toBeLessThan(504)
  for (const socket of sockets) socket.destroy()
  await expect.poll(heldNow).toBe(0)
  expect((await send(bridge, 'POST', '/publish?topic=a', {}, 'x'.repeat(500_000))).status).toBe(200)
})

test('a body in pieces is the same as in one', async () => {
  const bridge = await startBridge()
  const bytes = Array.from({ length: 30_000 }, (_, index) => String.fromCharCode(97 + (index % 26))).join('')
  const socket = await dial(bridge)
  socket.write(begin('/publish?topic=pieces&retain=true', 'text/plain'))
  for (let start = 0; start < bytes.length; start += 777) {
    const part = bytes.slice(start, start + 777)
    socket.write(`${part.length.toString(16)}\r\n${part}\r\n`)
  }
  socket.write('0\r\n\r\n')
  expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1.1 200/)
  expect(await (await fetch(`${bridge.url}/retained?topic=pieces`)).text()).toBe(bytes)
  expect(await held(bridge)).toBe(0)
})

test.each([
  ['a payload', '/publish?topic=a', 'text/plain', / 400 /],
  ['a line', '/publish/batch', 'application/x-ndjson', /"status":400/],
  ['what nobody reads', '/nowhere', 'text/plain', / 404 /],
])('%s in very many small pieces is cut off', async (_name, path, type, answer) => {
  const bridge = await startBridge()
  const socket = await dial(bridge)
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  socket.write(begin(path, type))
  const closed = new Promise((resolve) => socket.once('close', resolve))
  const timer = setInterval(() => socket.write('1\r\nx\r\n'.repeat(500)), 5)
  await closed
  clearInterval(timer)
  expect(text).toMatch(answer)
})
