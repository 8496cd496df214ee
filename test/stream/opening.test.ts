import { expect, test } from 'vitest'
import { brokerUrl, metric, startBridge } from '../support/bridge.ts'
import { startMosquitto } from '../support/broker.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { expectNothingLeft } from '../support/nothing-left.ts'
import { startScriptedBroker } from '../support/scripted-broker.ts'
import { openStream } from '../support/stream.ts'

const RETAINED = 1000
const PAYLOAD = 'x'.repeat(30_000)

test('the retained messages a stream begins with are written as they are read, and live ones behind them', async () => {
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
  // A socket takes some megabytes that are not read, but not all thirty.
  expect(await metric(bridge, 'causeway_stream_bytes_total')).toBeLessThan((RETAINED * PAYLOAD.length) / 2)
  stream.resume()
  const events = await stream.take(RETAINED + 1)
  expect(new Set(events.slice(0, RETAINED).map(({ data }) => data.topic)).size).toBe(RETAINED)
  expect(events.slice(0, RETAINED).every(({ data, id }) => data.retain === true && id === undefined)).toBe(true)
  expect(events[RETAINED]!.data).toMatchObject({ topic: 'r/0', payload: 'live', retain: false })
  stream.close()
  quick.close()
  await expectNothingLeft(bridge)
})

/** A broker that answers no PINGREQ on the connection for retained messages, so that streams stay half open. */
async function startHalfOpenBroker() {
  let answer: (() => void) | undefined
  let isRefusing = false
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd === 'pingreq' && peer.connect?.clientId.endsWith('-retained')) {
      if (answer !== undefined) return false
      answer = () => peer.send({ cmd: 'pingresp' })
    } else if (packet.cmd === 'connect' && isRefusing) peer.accept(false)
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

test('a stream that is half open when the bridge shuts down is ended, and holds nothing up', async () => {
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

test('a stream that is half open when its subscription is refused is told so and ended', async () => {
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

test('a stream sets the id to continue from before its first event, behind what it begins with', async () => {
  const settings = { MQTT_URL: (await startMosquitto()).url, STREAM_LINGER_MS: 60_000 }
  const bridge = await startBridge(settings)
  const outside = await mqttClient(settings.MQTT_URL)
  await outside.publishAsync('a', 'retained', { qos: 1, retain: true })
  const path = `${bridge.url}/subscribe?topic=%2B`
  const stream = await openStream(path)
  await expect.poll(() => stream.text()).toMatch(/^retry: \d+\n\ndata: .+\n\nid: .+\n\n$/)
  const id = /^id: (.+)$/m.exec(stream.text())![1]!
  stream.close()
  await expect.poll(() => metric(bridge, 'causeway_streams_open{format="sse"}')).toBe(0)
  for (const payload of ['1', '2']) await outside.publishAsync('a', payload, { qos: 1 })
  const back = await openStream(path, { 'last-event-id': id })
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
  await expect.poll(() => stream.text()).toMatch(/^id: /m)
  const id = /^id: (.+)$/m.exec(stream.text())![1]!
  stream.close()
  await expectNothingLeft(bridge)
  const outside = await mqttClient(settings.MQTT_URL)
  await outside.publishAsync('a', 'lost', { qos: 1 })
  const back = await openStream(`${bridge.url}/subscribe?topic=a`, { 'last-event-id': id })
  expect(await back.next()).toMatchObject({ event: 'gap', data: { reason: 'unknown-id' } })
  back.close()
  await expectNothingLeft(bridge)
})
