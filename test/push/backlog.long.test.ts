import { expect, test, vi } from 'vitest'
import { metric, startBridge } from '../support/bridge.ts'
import { spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { connectOnce } from '../support/mqtt-client.ts'
import { residentBytes } from '../support/process-state.ts'
import { pushFile, startEndpoint, untilPush } from '../support/push-endpoint.ts'

/** Fewer in CI, where the whole number would take a tenth of its time. */
const MESSAGES = process.env['CI'] === 'true' ? 25_000 : 100_000
const TOPICS = 10
/**
 * Above what the bridge has before the first message. It holds 4 MiB of messages at most, whatever their number. The
 * rest is garbage of messages that the broker sends again; 60 MiB were measured.
 */
const MORE_BYTES_MAX = 128 * 1024 * 1024

test.runIf(hasMosquitto)(
  `an endpoint that comes back gets ${MESSAGES} messages in order, and the memory of the bridge stays flat`,
  { timeout: 300_000 },
  async () => {
    const endpoint = await startEndpoint()
    const broker = await startMosquitto({ config: ['max_queued_messages 0'] })
    const { path } = pushFile([
      { name: 'hook', topics: ['a/#'], url: endpoint.url, concurrency: 8, batch: 100, retryMaxMs: 1000 },
    ])
    const bridge = spawnBridge({ MQTT_URL: broker.url, PUSH_FILE: path, SESSION_MAX_UNACKED: 1000 })
    const adminUrl = await bridge.url
    await untilPush({ adminUrl })
    await endpoint.stop()
    const before = residentBytes(bridge.pid)!
    let most = before
    const measuring = setInterval(() => (most = Math.max(most, residentBytes(bridge.pid)!)), 50)
    const publisher = await connectOnce(broker.url, { protocolVersion: 5 })
    for (let sent = 0; sent < MESSAGES; sent += 1000) {
      await Promise.all(
        Array.from({ length: 1000 }, (_, index) =>
          publisher.publishAsync(`a/${(sent + index) % TOPICS}`, `${sent + index} `.padEnd(100, 'x'), { qos: 1 }),
        ),
      )
    }
    await publisher.endAsync()
    await untilPush({ adminUrl }, 'retrying')

    const newest = new Map<number, number>()
    const seen = new Set<number>()
    const outOfOrder: string[] = []
    endpoint.answer = ({ body }) => {
      for (const { payload, redelivered } of JSON.parse(body.toString()) as {
        payload: string
        redelivered?: boolean
      }[]) {
        const number = Number.parseInt(payload, 10)
        const last = newest.get(number % TOPICS) ?? -1
        if (number < last && !redelivered) outOfOrder.push(`${number} after ${last}`)
        newest.set(number % TOPICS, Math.max(number, last))
        seen.add(number)
      }
      endpoint.requests.length = 0
      return 204
    }
    await endpoint.listen()
    await vi
      .waitUntil(() => seen.size === MESSAGES, { timeout: 240_000, interval: 100 })
      .catch(() => {
        throw new Error(`${seen.size} of ${MESSAGES} messages`)
      })
    clearInterval(measuring)
    expect(outOfOrder).toEqual([])
    expect((most - before) / 1024 / 1024, 'MiB more than before').toBeLessThan(MORE_BYTES_MAX / 1024 / 1024)
  },
)

test.runIf(hasMosquitto)(
  'what comes faster than an endpoint takes it waits in the connection, and the broker sends it once',
  { timeout: 120_000 },
  async () => {
    const messages = 3000
    const endpoint = await startEndpoint()
    const broker = await startMosquitto({ config: ['max_queued_messages 0'] })
    const { path } = pushFile([{ name: 'hook', topics: ['a'], url: endpoint.url }])
    const bridge = await startBridge({
      MQTT_URL: broker.url,
      PUSH_FILE: path,
      SESSION_MAX_UNACKED: 10,
      STREAM_LOG_BYTES: 20_000,
    })
    await untilPush(bridge)
    const publisher = await connectOnce(broker.url, { protocolVersion: 5 })
    const payloads = Array.from({ length: messages }, (_, index) => `${index}`.padEnd(1000, 'x'))
    await Promise.all(payloads.map((payload) => publisher.publishAsync('a', payload, { qos: 1 })))
    await publisher.endAsync()
    await vi.waitUntil(() => endpoint.requests.length >= messages, { timeout: 90_000, interval: 50 })
    expect(endpoint.payloads()).toEqual(payloads)
    // Left to the broker and asked for again, it would come a dozen times.
    expect(await metric(bridge, 'causeway_received_messages_total{qos="1"}')).toBeLessThan(2 * messages)
  },
)
