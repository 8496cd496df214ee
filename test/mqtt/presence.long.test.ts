import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, startBridge } from '../support/bridge.ts'
import { spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { publish } from '../support/http.ts'
import { collect, mqttClient } from '../support/mqtt-client.ts'
import { startProxy } from '../support/proxy.ts'
import { startScriptedBroker } from '../support/scripted-broker.ts'

const STATUS_TOPIC = 'bridges/one'

describe.each(BROKERS)('the status topic, on $name', ({ start }) => {
  test('says online, retained, while the bridge runs', async () => {
    const settings = { ...(await start()), STATUS_TOPIC }
    const bridge = await startBridge(settings)
    const statuses = await collect(await mqttClient(brokerUrl(bridge, settings)), STATUS_TOPIC)
    expect((await statuses.next()).payload.toString()).toBe('online')
    const late = await collect(await mqttClient(brokerUrl(bridge, settings)), STATUS_TOPIC)
    expect(await late.next()).toMatchObject({ payload: Buffer.from('online'), retain: true })
  })
})

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('on Mosquitto over MQTT %s', (protocol) => {
  test('says offline, retained and once, when the bridge shuts down', async () => {
    const { url } = await startMosquitto()
    const client = await mqttClient(url)
    const statuses = await collect(client, '#')
    const bridge = spawnBridge({ MQTT_URL: url, MQTT_PROTOCOL: protocol, STATUS_TOPIC, MQTT_CLIENT_ID: 'b1' })
    const said = (topic: string) =>
      statuses.packets.filter((packet) => packet.topic === topic).map(({ payload }) => payload.toString())
    await bridge.url
    for (const topic of [STATUS_TOPIC, `${STATUS_TOPIC}/b1`]) await expect.poll(() => said(topic)).toEqual(['online'])
    bridge.kill('SIGTERM')
    expect(await bridge.exited).toEqual({ code: 0, signal: null })
    await client.publishAsync('end', '')
    await expect.poll(() => statuses.packets.at(-1)?.topic).toBe('end')
    for (const topic of [STATUS_TOPIC, `${STATUS_TOPIC}/b1`]) expect(said(topic)).toEqual(['online', 'offline'])
    expect(await (await collect(await mqttClient(url), STATUS_TOPIC)).next()).toMatchObject({
      payload: Buffer.from('offline'),
      retain: true,
    })
  })

  test('says offline as Last Will when the bridge is killed', async () => {
    const { url } = await startMosquitto()
    const statuses = await collect(await mqttClient(url), STATUS_TOPIC)
    const bridge = spawnBridge({ MQTT_URL: url, MQTT_PROTOCOL: protocol, STATUS_TOPIC })
    expect((await statuses.next()).payload.toString()).toBe('online')
    bridge.kill('SIGKILL')
    expect((await statuses.next()).payload.toString()).toBe('offline')
    expect(await (await collect(await mqttClient(url), STATUS_TOPIC)).next()).toMatchObject({
      payload: Buffer.from('offline'),
      retain: true,
    })
  })

  test('says online while any of several bridges runs, and each has its own below it', async () => {
    const { url } = await startMosquitto()
    const statuses = await collect(await mqttClient(url), `${STATUS_TOPIC}/#`)
    /** What each topic says now. */
    const now = () => Object.fromEntries(statuses.packets.map(({ topic, payload }) => [topic, payload.toString()]))
    const settings = { MQTT_URL: url, MQTT_PROTOCOL: protocol, STATUS_TOPIC }
    const one = await startBridge({ ...settings, MQTT_CLIENT_ID: 'b1' })
    const two = spawnBridge({ ...settings, MQTT_CLIENT_ID: 'b2' })
    const both = { [STATUS_TOPIC]: 'online', [`${STATUS_TOPIC}/b1`]: 'online', [`${STATUS_TOPIC}/b2`]: 'online' }
    await expect.poll(now).toEqual(both)
    const before = statuses.packets.length
    // Its Last Will says offline on the topic that is about both.
    two.kill('SIGKILL')
    await expect.poll(() => statuses.packets.slice(before).map(({ payload }) => payload.toString())).toContain('online')
    await expect.poll(now).toEqual({ ...both, [`${STATUS_TOPIC}/b2`]: 'offline' })
    await one.close()
    await expect.poll(now).toEqual(Object.fromEntries(Object.keys(both).map((topic) => [topic, 'offline'])))
  })

  test('leaves nothing about a bridge whose name was random', async () => {
    const { url } = await startMosquitto()
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const statuses = await collect(await mqttClient(url), `${STATUS_TOPIC}/+`)
      const bridge = spawnBridge({ MQTT_URL: url, MQTT_PROTOCOL: protocol, STATUS_TOPIC })
      expect((await statuses.next()).payload.toString()).toBe('online')
      await bridge.url
      bridge.kill(signal)
      expect((await statuses.next()).payload.toString()).toBe('')
    }
  })

  test('counts the reconnects of its connections', async () => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol, STATUS_TOPIC })
    const connected = 'causeway_mqtt_connections{role="presence",state="connected"}'
    await expect.poll(() => metric(bridge, connected)).toBe(2)
    proxy.cut()
    await expect.poll(() => metric(bridge, 'causeway_mqtt_reconnects_total{role="presence"}')).toBe(2)
  })

  test('says online again when the broker is back', async () => {
    const broker = await startMosquitto()
    await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, STATUS_TOPIC })
    await broker.kill()
    await broker.start()
    expect((await (await collect(await mqttClient(broker.url), STATUS_TOPIC)).next()).payload.toString()).toBe('online')
  })
})

test.runIf(hasMosquitto)('a refused publish does not make the bridge look offline', async () => {
  const { url } = await startMosquitto({ acl: [`topic readwrite ${STATUS_TOPIC}/#`] })
  const statuses = await collect(await mqttClient(url), STATUS_TOPIC)
  const bridge = await startBridge({ MQTT_URL: url, STATUS_TOPIC })
  await statuses.next()
  for (let round = 0; round < 5; round += 1) expect((await publish(bridge, { topic: 'secret' })).status).toBe(403)
  await bridge.close()
  expect((await statuses.next()).payload.toString()).toBe('offline')
  expect(statuses.packets).toHaveLength(2)
})

test('a status message that the broker refuses is logged once and not sent again', async () => {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'publish' || !packet.topic.startsWith(STATUS_TOPIC)) return false
    peer.send({ cmd: 'puback', messageId: packet.messageId!, reasonCode: 0x87 })
    peer.close()
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, STATUS_TOPIC })
  const errors = () => bridge.logs.filter(({ level }) => level === 50)
  await expect.poll(() => errors().length).toBe(2)
  for (const { msg } of errors()) expect(msg).toContain(STATUS_TOPIC)
  await expect.poll(() => metric(bridge, 'causeway_mqtt_connections{role="presence",state="connected"}')).toBe(2)
  await publish(bridge, { topic: 'a' })
  expect(
    broker.peers
      .flatMap(({ received }) => received)
      .filter((packet) => packet.cmd === 'publish' && packet.topic.startsWith(STATUS_TOPIC)),
  ).toHaveLength(2)
})

// Artemis publishes a will only once the session has ended, which was five minutes later.
test('the connections of the status have no session, which would keep back their wills', async () => {
  const broker = await startScriptedBroker(() => false)
  await startBridge({ MQTT_URL: broker.url, STATUS_TOPIC })
  // One more has a will that is only tried out.
  const withWill = () =>
    broker.peers.flatMap(({ connect }) => (connect?.will?.topic.startsWith(STATUS_TOPIC) ? [connect] : []))
  await expect
    .poll(() =>
      withWill()
        .map(({ will }) => will!.topic)
        .sort(),
    )
    .toHaveLength(2)
  for (const { clean, properties } of withWill()) {
    expect(clean).toBe(true)
    expect(properties?.sessionExpiryInterval ?? 0).toBe(0)
  }
})
