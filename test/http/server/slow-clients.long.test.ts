import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { type Bridge, metric, type Settings, startBridge } from '../../support/bridge.ts'
import { publishRaw } from '../../support/http.ts'
import { type Exchange, exchange } from '../../support/raw-http.ts'

/** There is never a second answer: the connection is closed before. */
const untilClosed = ({ url }: Bridge, bytes: string): Promise<Exchange> =>
  exchange(url, Buffer.from(bytes), ['GET', 'GET'])

function dial({ url }: Bridge): Socket {
  const socket = connect(Number(new URL(url).port), '127.0.0.1').on('error', () => {})
  onTestFinished(() => void socket.destroy())
  return socket
}

test.each<[string, Settings, string, number, string]>([
  [
    'a head that does not arrive in time',
    { HEADERS_TIMEOUT_MS: 200 },
    'POST /publish?topic=a HTTP/1.1\r\nhost: localhost\r\n',
    408,
    'request-timeout',
  ],
  [
    'a body that does not arrive in time',
    { BODY_TIMEOUT_MS: 200 },
    'POST /publish?topic=a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nfour',
    408,
    'request-timeout',
  ],
  [
    'a head that is too large',
    { HEADERS_LIMIT_BYTES: 2048 },
    `GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ${'x'.repeat(4096)}\r\n\r\n`,
    431,
    'headers-too-large',
  ],
])('%s is answered with a problem, and its connection closed', async (_name, settings, bytes, status, code) => {
  const { answers } = await untilClosed(await startBridge(settings), bytes)
  expect(answers.map((answer) => [answer.status, JSON.parse(answer.body.toString()).code])).toEqual([[status, code]])
})

test('a connection that never says anything is closed', async () => {
  const bridge = await startBridge({ HEADERS_TIMEOUT_MS: 200 })
  await untilClosed(bridge, '')
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

test.each<[string, (bridge: Bridge) => Promise<string>]>([
  [
    'an answer',
    async (bridge) => {
      await publishRaw(bridge, 'topic=large&retain=true', 'x'.repeat(30_000_000))
      return 'GET /retained?topic=large HTTP/1.1\r\nhost: localhost\r\n\r\n'
    },
  ],
  [
    'the results of a batch',
    async () =>
      'POST /publish/batch HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n' +
      `content-length: 999999\r\n\r\n${'1\n'.repeat(99_999)}`,
  ],
])('who reads nothing of %s is cut off in time', async (_name, ask) => {
  const bridge = await startBridge({
    STREAM_STALL_MS: 300,
    HTTP_CONNECTIONS_MAX: 1,
    ADMIN_PORT: 0,
    BODY_LIMIT_BYTES: 40_000_000,
    RETAINED_MAX_BYTES: 40_000_000,
    MQTT_MAX_PACKET_BYTES: 40_000_000,
  })
  const request = await ask(bridge)
  await expect
    .poll(() =>
      publishRaw(bridge, 'topic=a', 'x', { connection: 'close' }).then(
        ({ status }) => status,
        () => 0,
      ),
    )
    .toBe(200)
  const socket = dial(bridge)
  socket.pause()
  socket.write(request)
  await expect
    .poll(
      () =>
        metric(bridge, 'causeway_limited_total{limit="connections"}').then(async (before) => {
          const status = await publishRaw(bridge, 'topic=a', 'x', { connection: 'close' }).then(
            (answer) => answer.status,
            () => 0,
          )
          return status === 200 && before > 0
        }),
      { timeout: 10_000, interval: 50 },
    )
    .toBe(true)
})
