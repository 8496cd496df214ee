import { describe, expect, test } from 'vitest'
import { type Bridge, metric, type Settings, startBridge } from '../support/bridge.ts'
import { basic, hasAccounts, startMosquittoWithAccounts } from '../support/accounts.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { publish } from '../support/http.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { acknowledge, count, numbers, openSession, told, trySession } from '../support/session.ts'
import { openStream } from '../support/stream.ts'

const SECRET = 'the same at every replica, 32 or more'
const SESSION_CONNECTED = 'causeway_mqtt_connections{role="session",state="connected"}'

async function replicas(number: number, settings: Settings): Promise<Bridge[]> {
  const bridges = await Promise.all(
    Array.from({ length: number }, () => startBridge({ STREAM_LINGER_MS: 60_000, ...settings })),
  )
  await know(bridges, number - 1)
  return bridges
}

async function know(bridges: Bridge[], others: number): Promise<void> {
  for (const bridge of bridges) {
    await expect.poll(() => metric(bridge, 'causeway_cluster_replicas'), { timeout: 10_000 }).toBe(others)
  }
}

function forget({ url }: Bridge, id: string): Promise<Response> {
  return fetch(`${url}/sessions/${id}`, { method: 'DELETE' })
}

describe.runIf(hasMosquitto).each([
  { protocol: '5', secret: SECRET },
  { protocol: '3.1.1', secret: undefined },
])('three replicas over MQTT $protocol', ({ protocol, secret }) => {
  async function threeReplicas() {
    const { url } = await startMosquitto()
    const settings = { MQTT_URL: url, MQTT_PROTOCOL: protocol, ...(secret && { SESSION_SECRET: secret }) }
    const [one, two, three] = await replicas(3, settings)
    return { url, settings, one: one!, two: two!, three: three! }
  }

  test('an acknowledgement at another replica reaches the one with the stream', async () => {
    const { one, two, three } = await threeReplicas()
    const reader = await openSession(one, { ack: 'explicit' })
    await count(two, 0, 3)
    const events = await reader.take(3)
    expect(await acknowledge(two, reader, events[1]!)).toEqual({
      status: 200,
      body: { acknowledged: 2, unacknowledged: 1 },
    })
    expect(await acknowledge(three, reader, { id: `${events[0]!.id!.split('-')[0]}-99` } as never)).toMatchObject({
      status: 409,
      body: { code: 'event-unknown' },
    })
    const itself = await openSession(one, { name: 'itself' })
    expect(await acknowledge(three, itself, itself.about)).toMatchObject({ body: { code: 'acknowledges-itself' } })
    reader.close()
    await expect.poll(() => metric(one, 'causeway_sessions_open')).toBe(2)
    const back = await openSession(three, { ack: 'explicit', lastEventId: events[1]!.id })
    expect(told([await back.next()])).toEqual(['!2'])
    // The one before still keeps the session open for a reader that comes back, and does not know this event.
    expect(await acknowledge(one, back, back.events.at(-1)!)).toMatchObject({ status: 200, body: { acknowledged: 1 } })
    const nobody = { about: { data: { id: back.about.data.id.replace(/.{4}$/, '0000') } } } as never
    expect(await acknowledge(two, nobody, events[1]!)).toMatchObject({
      status: 404,
      body: { code: 'session-not-open', retryable: true },
    })
    expect(await metric(two, 'causeway_cluster_questions_total{about="acknowledge",result="answered"}')).toBe(1)
    expect(await metric(two, 'causeway_cluster_questions_total{about="acknowledge",result="nobody"}')).toBe(1)
  })

  test('a session that is deleted at another replica stays deleted', async () => {
    const { one, two, three } = await threeReplicas()
    const reader = await openSession(one, { ack: 'explicit' })
    expect((await forget(two, reader.about.data.id)).status).toBe(204)
    expect(await reader.next()).toMatchObject({ event: 'status', data: { session: 'deleted' } })
    await reader.ended
    expect((await forget(three, reader.about.data.id)).status).toBe(404)
    expect((await openSession(three)).about.data.present).toBe(false)
  })

  test('a reader that was replaced does not take the session back through a third replica', async () => {
    const { one, two, three } = await threeReplicas()
    const first = await openSession(one, { ack: 'explicit' })
    await openSession(two, { ack: 'explicit' }).then(async (second) => {
      await first.ended
      for (const bridge of [one, two, three]) {
        expect((await trySession(bridge, { ack: 'explicit', lastEventId: first.about.id })).status).toBe(204)
      }
      await count(one, 0, 1)
      await expect.poll(() => told(second.events)).toContain('0')
    })
  })

  test('a reader whose new bridge died before its first event gets the session back where it was', async () => {
    const { one, two } = await threeReplicas()
    const first = await openSession(one, { ack: 'explicit' })
    const { id } = first.about
    // It goes on at another replica, which ends before it has sent an event.
    const moved = await openSession(two, { ack: 'explicit', lastEventId: id })
    await first.ended
    moved.close()
    await two.close()
    await know([one], 1)
    const back = await openSession(one, { ack: 'explicit', lastEventId: id })
    await count(one, 0, 2)
    expect(told(await back.take(2))).toEqual(numbers(0, 2))
  })

  test('callers can neither publish nor subscribe there, and get nothing of it with #', async () => {
    const { one, two } = await threeReplicas()
    const refused = await publish(one, { topic: 'causeway/cluster/all', payload: '{}' }).catch((error) => String(error))
    expect(JSON.stringify(refused)).toContain('forbidden')
    for (const topic of ['causeway/cluster/%23', '$share/g/causeway/cluster/all', 'causeway/cluster']) {
      expect((await openStream(`${one.url}/subscribe?topic=${topic}`)).status).toBe(403)
    }
    const reader = await openSession(one, { ack: 'explicit', topics: ['#'] })
    const stream = await openStream(`${one.url}/subscribe?topic=%23`)
    await acknowledge(two, reader, reader.about)
    await publish(two, { topic: 'after', payload: 'it' })
    expect(told([await reader.next()])).toEqual(['it'])
    await expect.poll(() => told(stream.events)).toEqual(['it'])
  })
})

test.runIf(hasMosquitto)('nobody without the secret, and nothing that was recorded, is listened to', async () => {
  const { url } = await startMosquitto()
  const [one, two] = await replicas(2, { MQTT_URL: url, SESSION_SECRET: SECRET })
  const client = await mqttClient(url)
  const seen: { topic: string; payload: Buffer }[] = []
  client.on('message', (topic, payload) => void seen.push({ topic, payload }))
  await client.subscribeAsync('causeway/cluster/#')

  const reader = await openSession(one!, { ack: 'explicit' })
  const { id } = reader.about.data
  expect((await forget(two!, id)).status).toBe(204)
  await reader.ended
  const asked = seen.find(({ payload }) => payload.includes('forget'))!
  const again = await openSession(one!, { ack: 'explicit' })
  expect(again.about.data.id).toBe(id)
  const answers = () => seen.filter(({ payload }) => payload.includes('"answer"')).length
  const before = answers()
  await client.publishAsync(asked.topic, asked.payload, { qos: 1 })
  const { body } = JSON.parse(asked.payload.toString())
  for (const forged of [{ body }, { body: { ...body, number: 99 }, mac: 'AAAA' }]) {
    await client.publishAsync(asked.topic, JSON.stringify(forged), { qos: 1 })
  }
  for (const nonsense of ['', 'null', '[]', '{"body":null}', '{"body":{"kind":"hello"}}', 'x'.repeat(20_000)]) {
    await client.publishAsync(asked.topic, nonsense, { qos: 1 })
  }
  // What is handed over afterwards is carried out, so the others were seen, and were not.
  await count(one!, 0, 1)
  expect(await acknowledge(two!, again, await again.next())).toMatchObject({ status: 200 })
  await expect.poll(() => seen.some(({ payload }) => payload.includes('"acknowledged"'))).toBe(true)
  expect(answers()).toBe(before + 1)
  expect(one!.logs.some(({ msg }) => String(msg).includes('not of a replica'))).toBe(true)
})

test.runIf(hasMosquitto)('a replica that ended is not waited for, and one that froze only once', async () => {
  const { url } = await startMosquitto()
  const [one, two] = await replicas(2, { MQTT_URL: url })
  const reader = await openSession(two!)
  await two!.close()
  await know([one!], 0)
  expect((await acknowledge(one!, reader, reader.about)).status).toBe(404)
  expect(await metric(one!, 'causeway_cluster_questions_total{about="acknowledge",result="timeout"}')).toBe(0)
  // One that says hello and never answers.
  const client = await mqttClient(url)
  await client.publishAsync('causeway/cluster/all', JSON.stringify({ body: { kind: 'hello', from: 'frozen' } }))
  await know([one!], 1)
  expect((await acknowledge(one!, reader, reader.about)).status).toBe(404)
  await know([one!], 0)
  expect(await metric(one!, 'causeway_cluster_questions_total{about="acknowledge",result="timeout"}')).toBe(1)
})

test.runIf(hasMosquitto)('where the broker forbids the topic, a bridge works alone, and says so once', async () => {
  const { url } = await startMosquitto({ acl: ['topic readwrite a', 'topic readwrite causeway/marker/#'] })
  const bridge = await startBridge({ MQTT_URL: url, STREAM_LINGER_MS: 60_000 })
  await expect
    .poll(() => bridge.logs.filter(({ msg }) => String(msg).includes('is not handed over')).length, { timeout: 10_000 })
    .toBe(1)
  const first = await openSession(bridge)
  const second = await openSession(bridge)
  await first.ended
  expect((await trySession(bridge, { lastEventId: first.about.id })).status).toBe(204)
  second.close()
  await expect.poll(() => metric(bridge, SESSION_CONNECTED)).toBe(0)
  expect((await acknowledge(bridge, second, second.about)).status).toBe(409)
})

test.runIf(hasMosquitto)('a question over MQTT 5 says where its answer goes', async () => {
  const { url } = await startMosquitto()
  const [one, two] = await replicas(2, { MQTT_URL: url })
  const reader = await openSession(one!)
  const client = await mqttClient(url, { protocolVersion: 5 })
  const questions: { responseTopic?: string | undefined; correlationData?: Buffer | undefined }[] = []
  client.on('message', (_topic, payload, { properties }) => {
    if (payload.includes('"ask"')) questions.push(properties!)
  })
  await client.subscribeAsync('causeway/cluster/#')
  await forget(two!, reader.about.data.id)
  await expect.poll(() => questions.length).toBe(1)
  expect(questions[0]!.responseTopic).toMatch(/^causeway\/cluster\/to\/[0-9a-f]{24}$/)
  expect(questions[0]!.correlationData).toEqual(Buffer.from('1'))
})

test.runIf(hasAccounts)(
  'with accounts of the callers, acknowledgements are handed over if the bridge has one of its own',
  async () => {
    const names = ['alice', 'bob', 'bridge']
    const broker = await startMosquittoWithAccounts(
      Object.fromEntries(names.map((name) => [name, { password: `secret of ${name}` }])),
    )
    const settings = { MQTT_URL: broker.url, AUTH: 'broker', ADMIN_PORT: 0 }
    const own = { MQTT_USERNAME: 'bridge', MQTT_PASSWORD: 'secret of bridge' }
    const [one, two] = await replicas(2, { ...settings, ...own })
    const [alice, bob] = [basic('alice', 'secret of alice'), basic('bob', 'secret of bob')]
    const alone = await startBridge(settings)
    await expect.poll(() => alone.logs.filter(({ msg }) => String(msg).includes('is not handed over')).length).toBe(1)
    const reader = await openStream(`${one!.url}/subscribe?topic=a&session=s&ack=explicit`, alice)
    const { data } = await reader.next()
    await publish(two!, { topic: 'a', payload: '0' }, alice)
    const { id } = await reader.next()
    const ack = (bridge: Bridge, by: Record<string, string>) =>
      fetch(`${bridge.url}/sessions/${data.id}/ack`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...by },
        body: JSON.stringify({ id }),
      })
    expect((await ack(two!, bob)).status).toBe(404)
    expect((await ack(alone, alice)).status).toBe(404)
    expect(await (await ack(two!, alice)).json()).toEqual({ acknowledged: 1, unacknowledged: 0 })
    expect(alone.logs.filter(({ msg }) => /trying again/.test(String(msg)))).toEqual([])
  },
)
