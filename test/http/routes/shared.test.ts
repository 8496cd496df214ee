import { describe, expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { get } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { openStream, type StreamReader } from '../../support/stream.ts'

const GROUP = 'topic=$share/workers/jobs/%23'
const payloadsOf = (readers: StreamReader[]) =>
  readers.flatMap(({ events }) =>
    events.filter(({ event }) => event === 'message').map(({ data }) => Number(data.payload.split(' ')[0])),
  )
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index)
const sorted = (numbers: number[]) => numbers.toSorted((a, b) => a - b)

describe.skipIf(!hasMosquitto).each([{ protocol: '5' }, { protocol: '3.1.1' }])(
  'on Mosquitto, MQTT $protocol',
  ({ protocol }) => {
    const settings = (url: string) => ({ MQTT_URL: url, MQTT_PROTOCOL: protocol, MQTT_SHARED_SUBSCRIPTIONS: 'true' })

    test('each message goes to one reader of the group, in turn, and to every other stream', async () => {
      const { url } = await startMosquitto()
      const bridge = await startBridge(settings(url))
      const readers = await Promise.all(
        ['', '', '&encoding=json'].map((more) => openStream(`${bridge.url}/subscribe?${GROUP}${more}`)),
      )
      const plain = await openStream(`${bridge.url}/subscribe?topic=jobs/%23`)
      const client = await mqttClient(url)
      for (const number of upTo(30)) await client.publishAsync('jobs/a', `${number} x`, { qos: 1 })
      await plain.take(30)
      await expect.poll(() => sorted(payloadsOf(readers))).toEqual(upTo(30))
      expect(Math.min(...readers.slice(0, 2).map(({ events }) => events.length))).toBeGreaterThan(5)
      readers[0]!.close()
      for (const number of upTo(10)) await client.publishAsync('jobs/a', `${30 + number} x`, { qos: 1 })
      await plain.take(10)
      await expect.poll(() => payloadsOf(readers).length).toBeGreaterThanOrEqual(39)
    })

    test('across two bridges each message is delivered exactly once in all', async () => {
      const { url } = await startMosquitto()
      const bridges = [await startBridge(settings(url)), await startBridge(settings(url))]
      const readers = await Promise.all(
        [0, 0, 1].map((index) => openStream(`${bridges[index]!.url}/subscribe?${GROUP}`)),
      )
      const client = await mqttClient(url)
      for (const number of upTo(60)) await client.publishAsync('jobs/a', `${number} x`, { qos: 1 })
      await expect.poll(() => sorted(payloadsOf(readers))).toEqual(upTo(60))
      for (const { events } of readers) expect(events.length).toBeGreaterThan(0)
    })

    test('a stalled reader is not fed more, and nothing is lost by it', async () => {
      const { url } = await startMosquitto()
      const bridge = await startBridge({ ...settings(url), STREAM_LOG_BYTES: 100_000_000 })
      const [stalled, ready] = (await Promise.all([
        openStream(`${bridge.url}/subscribe?${GROUP}`),
        openStream(`${bridge.url}/subscribe?${GROUP}`),
      ])) as [StreamReader, StreamReader]
      stalled.pause()
      const client = await mqttClient(url)
      const filling = 'x'.repeat(100_000)
      for (const number of upTo(200)) await client.publishAsync('jobs/a', `${number} ${filling}`, { qos: 1 })
      // If neither stalled, each would get half.
      await expect.poll(() => ready.events.length, { timeout: 20_000 }).toBeGreaterThan(120)
      stalled.resume()
      await expect.poll(() => sorted(payloadsOf([stalled, ready])), { timeout: 20_000 }).toEqual(upTo(200))
    })

    test('a reader that comes back is told that nobody knows what it missed', async () => {
      const { url } = await startMosquitto()
      const bridge = await startBridge({ ...settings(url), STREAM_LINGER_MS: 60_000 })
      const client = await mqttClient(url)
      const reader = await openStream(`${bridge.url}/subscribe?${GROUP}`)
      await client.publishAsync('jobs/a', '0 x', { qos: 1 })
      const { id } = await reader.next()
      reader.close()
      const back = await openStream(`${bridge.url}/subscribe?${GROUP}`, { 'last-event-id': id! })
      expect(await back.next()).toMatchObject({ event: 'gap', data: { reason: 'unknown-id' } })
    })
  },
)

test.each([
  ['topic=$share/g/a&topic=a', 'mix'],
  ['topic=$share/g/a/%2B&topic=$share/h/a/b', 'overlap'],
])('%s is refused: copies could not be told apart', async (query, word) => {
  const bridge = await startBridge()
  const { status, body } = await get(bridge, `/subscribe?${query}`)
  expect([status, body.errors[0].pointer]).toEqual([400, '#/topic'])
  expect(body.detail).toContain(word)
})

test('a broker that would stay silent for ever is not asked', async () => {
  const bridge = await startBridge({ MQTT_PROTOCOL: '3.1.1' })
  expect((await get(bridge, `/subscribe?${GROUP}`)).body).toMatchObject({
    status: 422,
    code: 'shared-subscriptions-not-supported',
  })
})
