import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../support/bridge.ts'
import { publishRaw } from '../support/http.ts'

/** Sends these bytes and nothing more; resolves with all that comes until the connection is closed. */
async function untilClosed(bridge: Bridge, bytes: string): Promise<string> {
  const socket = dial(bridge)
  let text = ''
  socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk))
  socket.write(bytes)
  await once(socket, 'close')
  return text
}

function dial({ url }: Bridge): Socket {
  const socket = connect(Number(new URL(url).port), '127.0.0.1').on('error', () => {})
  onTestFinished(() => void socket.destroy())
  return socket
}

const codeOf = (answer: string): unknown => JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4)).code

test('a head that does not arrive in time gets 408 as a problem', async () => {
  const bridge = await startBridge({ HEADERS_TIMEOUT_MS: 200 })
  const answer = await untilClosed(bridge, 'POST /publish?topic=a HTTP/1.1\r\nhost: localhost\r\n')
  expect([answer.slice(9, 12), codeOf(answer)]).toEqual(['408', 'request-timeout'])
})

test('a connection that never says anything is closed', async () => {
  const bridge = await startBridge({ HEADERS_TIMEOUT_MS: 200 })
  await untilClosed(bridge, '')
})

test('a body that does not arrive in time gets 408 as a problem', async () => {
  const bridge = await startBridge({ BODY_TIMEOUT_MS: 200 })
  const answer = await untilClosed(bridge, 'POST /publish?topic=a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nfour')
  expect([answer.slice(9, 12), codeOf(answer)]).toEqual(['408', 'request-timeout'])
})

test('a head that is too large gets 431 as a problem', async () => {
  const bridge = await startBridge({ HEADERS_LIMIT_BYTES: 2048 })
  const answer = await untilClosed(bridge, `GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ${'x'.repeat(4096)}\r\n\r\n`)
  expect([answer.slice(9, 12), codeOf(answer)]).toEqual(['431', 'headers-too-large'])
})

test('a connection beyond their number is closed, and counted; the others go on', async () => {
  const bridge = await startBridge({ HTTP_CONNECTIONS_MAX: 2, ADMIN_PORT: 0 })
  const held = [dial(bridge), dial(bridge)]
  await Promise.all(held.map((socket) => once(socket, 'connect')))
  await untilClosed(bridge, '')
  expect(await metric(bridge, 'causeway_limited_total{limit="connections"}')).toBeGreaterThan(0)
  held[0]!.destroy()
  await expect.poll(async () => (await publishRaw(bridge, 'topic=a', 'x').catch(() => undefined))?.status).toBe(200)
})
