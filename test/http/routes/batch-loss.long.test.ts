import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { batch, openBatch } from '../../support/ndjson.ts'
import { isPublisher, startScriptedBroker } from '../../support/scripted-broker.ts'

const line = (index: number) => `${JSON.stringify({ topic: 'b', payload: `${index}` })}\n`

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('over MQTT %s', (protocol) => {
  test('a broker that is killed mid-way leaves each message its own outcome, and the answer ends', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, PUBLISH_TIMEOUT_MS: 3000 })
    const conversation = openBatch(bridge.url)
    conversation.send(line(0))
    expect(await conversation.next()).toMatchObject({ index: 0, status: 200 })
    broker.freeze()
    for (let index = 1; index <= 30; index += 1) conversation.send(line(index))
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(30)
    await broker.kill()
    conversation.end()
    const results = await conversation.rest()
    expect(results.map(({ index, line: at }) => [index, at])).toEqual(
      Array.from({ length: 30 }, (_, index) => [index + 1, index + 2]),
    )
    expect(results.slice(0, 20).map(({ problem }) => problem.outcome)).toEqual(Array(20).fill('unknown'))
    // Not sent: refused without a broker connection, or timed out in the queue.
    for (const { problem } of results.slice(20)) {
      expect(problem.code === 'broker-unavailable' || problem.outcome === 'not-sent').toBe(true)
    }
    expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
  })

  test('without a broker each message of a batch says so, and the next batch after its return succeeds', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, PUBLISH_MAX_IN_FLIGHT: 2 })
    await broker.kill()
    await expect.poll(() => bridge.isReachable()).toBe(false)
    const away = await batch(bridge.url, 'json', Array(9).fill({ topic: 'b' }))
    expect(away).toMatchObject({
      status: 207,
      body: Array(9).fill({ problem: { status: 503, code: 'broker-unavailable' } }),
    })
    await broker.start()
    await expect.poll(() => bridge.isReachable(), { timeout: 20_000 }).toBe(true)
    expect(await batch(bridge.url, 'json', Array(9).fill({ topic: 'b' }))).toMatchObject({ status: 200 })
  })
})

test.runIf(hasMosquitto)('a message the broker refuses fails alone', async () => {
  const broker = await startMosquitto({ acl: ['topic write ok/#'] })
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1 })
  const topics = ['ok/1', 'no/1', 'ok/2', 'ok/3', 'no/2', 'ok/4']
  const { status, body } = await batch(
    bridge.url,
    'json',
    topics.map((topic) => ({ topic })),
  )
  expect(status).toBe(207)
  expect(
    body.map((result: { status?: number; problem?: { status: number } }) => result.status ?? result.problem?.status),
  ).toEqual([200, 403, 200, 200, 403, 200])
})

test('a caller that leaves is read no further', async () => {
  const held: (() => void)[] = []
  let answering = false
  let published = 0
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'publish' || !isPublisher(peer)) return false
    published += 1
    if (!answering) held.push(() => peer.send({ cmd: 'puback', messageId: packet.messageId! }))
    return !answering
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_MAX_IN_FLIGHT: 10, PUBLISH_CONNECTIONS: 1 })
  const conversation = openBatch(bridge.url)
  for (let index = 0; index < 20_000; index += 1) conversation.send(line(index))
  await expect.poll(() => held.length).toBe(10)
  conversation.request.destroy()
  // The bridge does not read the socket meanwhile, so only the next result that it writes shows that the client is
  // gone.
  answering = true
  for (const acknowledge of held) acknowledge()
  // What was read is published. That is much less than what was sent.
  const answered = 'causeway_publish_messages_total{qos="1",outcome="acknowledged"}'
  let before = -1
  await expect
    .poll(
      async () => {
        const last = before
        before = await metric(bridge, answered)
        return before === last && (await metric(bridge, 'causeway_publish_in_flight')) === 0
      },
      { timeout: 10_000 },
    )
    .toBe(true)
  expect(published).toBe(before)
  expect(published).toBeLessThan(5000)
  expect(bridge.logs.filter(({ level }) => Number(level) >= 40)).toEqual([])
})
