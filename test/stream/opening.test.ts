import { expect, test } from 'vitest'
import { brokerUrl, metric, startBridge } from '../support/bridge.ts'
import { startMosquitto } from '../support/broker.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { expectNothingLeft } from '../support/nothing-left.ts'
import { startScriptedBroker } from '../support/scripted-broker.ts'
import { openStream } from '../support/stream.ts'

const RETAINED = 1000
const PAYLOAD = 'x'.repeat(30_000)

test('retained messages are written only as fast as the reader takes them, and before the live ones', async () => {
  const bridge = await startBridge({ RETAINED_MAX_BYTES: 100_000_000, PUBLISH_TIMEOUT_MS: 20_000 })
  const outside = await mqttClient(brokerUrl(bridge, {}))
  for (let index = 0; index < RETAINED; index += 1) {
    await outside.publishAsync(`r/${index}`, PAYLOAD, { qos: 1, retain: true })
  }
  const quick = await openStream(`${bridge.url}/subscribe?topic=r/0&retained=false`)
  const stream = await openStream(`${bridge.url}/subscribe?topic=r/%2B`)
  stream.pause()
  await outside.publishAsync('r/0', 'live', { qos: 1 })
  await quick.next()
  // The sockets buffer a few megabytes of the 30 MB.
  expect(await metric(bridge, 'causeway_stream_bytes_total')).toBeLessThan((RETAINED * PAYLOAD.length) / 2)
  stream.resume()
  const events = await stream.take(RETAINED + 1)
  expect(new Set(events.slice(0, RETAINED).map(({ data }) => data.topic)).size).toBe(RETAINED)
  expect(events.slice(0, RETAINED).every(({ data }) => data.retain === true)).toBe(true)
  expect(events.slice(0, RETAINED - 1).every(({ id }) => id === undefined)).toBe(true)
  expect(events[RETAINED]!.data).toMatchObject({ topic: 'r/0', payload: 'live', retain: false })
  stream.close()
  quick.close()
  await expectNothingLeft(bridge)
})

/** A broker that sends nothing more once it is asked for retained messages, so that streams stay half opened. */
async function startHalfOpenBroker() {
  let answer: (() => void) | undefined
  let isRefusing = false
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd === 'subscribe' && peer.connect?.clientId.includes('-retained') && answer === undefined) {
      peer.hold()
      answer = () => peer.flow()
      return false
    }
    if (packet.cmd === 'connect' && isRefusing) peer.accept(false)
    else if (packet.cmd === 'subscribe' && isRefusing) {
      peer.send({ cmd: 'suback', messageId: packet.messageId!, granted: [0x87] })
    } else if (packet.cmd === 'unsubscribe') peer.send({ cmd: 'unsuback', messageId: packet.messageId!, granted: [0] })
    else return false
    return true
  })
  return {
    url: broker.url,
    halfOpen: () => expect.poll(() => answer !== undefined).toBe(true),
    goOn: () => answer!(),
    refuse() {
      isRefusing = true
      broker.peers.findLast(({ connect }) => connect?.clientId.endsWith('-subscribe-0'))!.close()
    },
  }
}

test('a stream that is half opened when the bridge shuts down is ended, and does not delay it', async () => {
  const broker = await startHalfOpenBroker()
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 20_000 })
  const opening = openStream(`${bridge.url}/subscribe?topic=a`)
  await broker.halfOpen()
  const closed = bridge.close()
  broker.goOn()
  const stream = await opening
  await stream.ended
  await closed
})

test('a stream that is half opened when its subscription is refused gets a gap and ends', async () => {
  const broker = await startHalfOpenBroker()
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 20_000 })
  const opening = openStream(`${bridge.url}/subscribe?topic=a`)
  await broker.halfOpen()
  broker.refuse()
  await expect
    .poll(() => bridge.logs.some(({ problem }) => problem === 'not-authorized'), { timeout: 10_000 })
    .toBe(true)
  broker.goOn()
  const stream = await opening
  await stream.ended
  expect(stream.events.at(-1)).toMatchObject({ event: 'gap', data: { reason: 'subscription-refused' } })
  await expectNothingLeft(bridge)
})

test('the last retained message has the id to continue after, while there is no other event', async () => {
  const settings = { MQTT_URL: (await startMosquitto()).url, STREAM_LINGER_MS: 60_000 }
  const bridge = await startBridge(settings)
  const outside = await mqttClient(settings.MQTT_URL)
  await outside.publishAsync('a', 'retained', { qos: 1, retain: true })
  const path = `${bridge.url}/subscribe?topic=%2B`
  const stream = await openStream(path)
  const { id } = await stream.next()
  stream.close()
  await expect.poll(() => metric(bridge, 'causeway_streams_open{format="sse"}')).toBe(0)
  for (const payload of ['1', '2']) await outside.publishAsync('a', payload, { qos: 1 })
  const back = await openStream(path, { 'last-event-id': id! })
  expect((await back.take(2)).map(({ data }) => [data.payload, data.retain])).toEqual([
    ['1', false],
    ['2', false],
  ])
  expect(await metric(bridge, 'causeway_stream_resumes_total{result="resumed"}')).toBe(1)
})

test('an id from the start of a stream is unknown once its subscription is over', async () => {
  const settings = { MQTT_URL: (await startMosquitto()).url }
  const bridge = await startBridge(settings)
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
  const { id } = await stream.opening
  stream.close()
  await expectNothingLeft(bridge)
  const outside = await mqttClient(settings.MQTT_URL)
  await outside.publishAsync('a', 'lost', { qos: 1 })
  const back = await openStream(`${bridge.url}/subscribe?topic=a`, { 'last-event-id': id! })
  expect(await back.next()).toMatchObject({ event: 'gap', data: { reason: 'unknown-id' } })
  back.close()
  await expectNothingLeft(bridge)
})
