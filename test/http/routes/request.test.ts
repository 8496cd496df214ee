import type { IPublishPacket } from 'mqtt'
import { describe, expect, test } from 'vitest'
import { BROKERS, type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { hasPaho, type Reply, startPahoResponder, startResponder } from '../../support/responder.ts'

function ask(bridge: Bridge, query = 'topic=q', body = 'ping', options: RequestInit = {}): Promise<Response> {
  return fetch(`${bridge.url}/request?${query}`, { method: 'POST', body, ...options })
}

function askJson(bridge: Bridge, message: object, query = ''): Promise<Response> {
  return fetch(`${bridge.url}/request${query}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(message),
  })
}

const replies = async (bridge: Bridge) =>
  Object.fromEntries(
    await Promise.all(
      ['delivered', 'late', 'foreign'].map(async (result) => [
        result,
        await metric(bridge, `causeway_request_replies_total{result="${result}"}`),
      ]),
    ),
  )
const waiting = (bridge: Bridge) => metric(bridge, 'causeway_requests_waiting')

test.each(BROKERS.filter(({ protocol }) => protocol === 4))(
  'on $name requests get 501, and nothing is published',
  async ({ start }) => {
    const bridge = await startBridge(await start())
    const response = await ask(bridge)
    expect(response.status).toBe(501)
    expect(await response.json()).toMatchObject({ code: 'requests-not-supported' })
    expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="acknowledged"}')).toBe(0)
  },
)

describe.runIf(hasMosquitto)('over MQTT 5', () => {
  async function pair(settings = {}) {
    const broker = await startMosquitto()
    return { broker, bridge: await startBridge({ MQTT_URL: broker.url, ...settings }) }
  }

  test.runIf(hasPaho)('a responder on Paho answers, with content type and user properties', async () => {
    const { broker, bridge } = await pair()
    await startPahoResponder(broker.port, 'q')
    const response = await askJson(bridge, {
      topic: 'q',
      payload: 'grüße',
      properties: { userProperties: { from: 'us' } },
    })
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([
      200,
      'text/x-shout',
      'GRÜSSE',
    ])
    expect(JSON.parse(response.headers.get('mqtt-user-properties')!)).toEqual({ from: 'us', by: 'paho' })
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
  })

  test('many at once each get their own reply, and correlation data that differs beyond counting', async () => {
    const { broker, bridge } = await pair()
    const held: (() => void)[] = []
    const correlations = new Set<string>()
    await startResponder(broker.url, 'q', (payload, reply, packet) => {
      correlations.add(packet.properties!.correlationData!.subarray(8).toString('hex'))
      held.push(() => reply(`re ${payload}`))
      // In a different order than they arrived.
      if (held.length === 200) for (const answer of held.toReversed()) answer()
    })
    const numbers = Array.from({ length: 200 }, (_, index) => `${index}`)
    const answers = await Promise.all(numbers.map(async (number) => (await ask(bridge, 'topic=q', number)).text()))
    expect(answers).toEqual(numbers.map((number) => `re ${number}`))
    expect(correlations.size).toBe(200)
    expect(await replies(bridge)).toEqual({ delivered: 200, late: 0, foreign: 0 })
    expect(await waiting(bridge)).toBe(0)
  })

  test('where nobody subscribes it is 404 at once', async () => {
    const { bridge } = await pair()
    const response = await ask(bridge, 'topic=q&timeout=300000')
    expect(response.status).toBe(404)
    expect(await response.json()).toMatchObject({ code: 'no-responder' })
    expect(await waiting(bridge)).toBe(0)
  })

  test('where nobody replies it is 504, and a reply after that is late', async () => {
    const { broker, bridge } = await pair()
    const requests: Reply[] = []
    await startResponder(broker.url, 'q', (_payload, reply) => requests.push(reply))
    const response = await ask(bridge, 'topic=q&timeout=100')
    expect(response.status).toBe(504)
    expect(await response.json()).toMatchObject({ code: 'no-reply' })
    expect(await waiting(bridge)).toBe(0)
    requests[0]!('too late')
    await expect.poll(() => replies(bridge)).toEqual({ delivered: 0, late: 1, foreign: 0 })
  })

  test('of two replies the first counts, and those with a wrong correlation do not', async () => {
    const { broker, bridge } = await pair()
    await startResponder(broker.url, 'q', (_payload, reply, packet) => {
      const forged = Buffer.from(packet.properties!.correlationData!)
      forged[7]! += 1
      reply('forged', { correlationData: forged })
      reply('guessed', { correlationData: Buffer.from('guess') })
      reply('first')
      reply('second')
    })
    expect(await (await ask(bridge)).text()).toBe('first')
    await expect.poll(() => replies(bridge)).toEqual({ delivered: 1, late: 1, foreign: 2 })
  })

  test('over the limit it is 503, and a caller that leaves makes room', async () => {
    const { broker, bridge } = await pair({ REQUESTS_MAX: 1 })
    const seen: IPublishPacket[] = []
    await startResponder(
      broker.url,
      'q',
      (payload, reply, packet) => void (seen.push(packet), payload === 'answer me' && reply('yes')),
    )
    const leaving = new AbortController()
    const first = ask(bridge, 'topic=q&timeout=60000', 'ping', { signal: leaving.signal })
    await expect.poll(() => seen.length).toBe(1)
    const refused = await ask(bridge)
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await refused.json()).toMatchObject({ code: 'overloaded', outcome: 'not-sent' })
    leaving.abort()
    await expect(first).rejects.toThrow()
    await expect.poll(() => waiting(bridge)).toBe(0)
    expect(await (await ask(bridge, 'topic=q', 'answer me')).text()).toBe('yes')
    expect(seen).toHaveLength(2)
  })

  test('one caller has no more requests waiting than are left for the others', async () => {
    const { broker, bridge } = await pair({ REQUESTS_MAX: 6, TRUST_PROXY: '127.0.0.1' })
    const held: Reply[] = []
    await startResponder(broker.url, 'q', (_payload, reply) => void held.push(reply))
    const askFrom = (address: string) =>
      ask(bridge, 'topic=q&timeout=60000', 'ping', { headers: { 'x-forwarded-for': address } })
    const greedy = Array.from({ length: 3 }, () => askFrom('192.0.2.1'))
    await expect.poll(() => held.length).toBe(3)
    const refused = await askFrom('192.0.2.1')
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await refused.json()).toMatchObject({ code: 'overloaded', outcome: 'not-sent' })
    expect(await metric(bridge, 'causeway_held_bytes{purpose="requests"}')).toBeGreaterThan(0)
    const polite = askFrom('192.0.2.2')
    await expect.poll(() => held.length).toBe(4)
    for (const reply of held) reply('pong')
    for (const one of [...greedy, polite]) expect(await (await one).text()).toBe('pong')
    await expect.poll(() => metric(bridge, 'causeway_held_bytes{purpose="requests"}')).toBe(0)
  })

  test.each(['responseTopic', 'correlationData'])(
    'a message with %s of its own is refused, with a pointer to it',
    async (name) => {
      const { bridge } = await pair()
      const response = await askJson(bridge, { topic: 'q', properties: { [name]: 'YQ==' } })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ errors: [{ in: 'body', pointer: `#/properties/${name}` }] })
    },
  )

  test.each(['0', '300001', 'x', '1.5'])('a timeout of %s is refused', async (timeout) => {
    const { bridge } = await pair()
    expect((await ask(bridge, `topic=q&timeout=${timeout}`)).status).toBe(400)
  })

  test('it works again after the broker restarts', async () => {
    const { broker, bridge } = await pair()
    await startResponder(broker.url, 'q', (_payload, reply) => reply('pong'))
    expect(await (await ask(bridge)).text()).toBe('pong')
    await broker.kill()
    await expect.poll(() => bridge.isReachable()).toBe(false)
    expect((await ask(bridge)).status).toBe(503)
    await broker.start()
    await startResponder(broker.url, 'r', (_payload, reply) => reply('pong again'))
    // The connection of requests is not one that readiness waits for.
    await expect.poll(async () => (await ask(bridge, 'topic=r')).text(), { timeout: 20_000 }).toBe('pong again')
  })
})
