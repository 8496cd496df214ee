import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { IPublishPacket } from 'mqtt'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { mqttClient } from '../support/mqtt-client.ts'

const ask = (bridge: Bridge, payload: string, query = 'topic=q/a') => fetch(`${bridge.url}/request?${query}`, { method: 'POST', body: payload })
const replies = (bridge: Bridge, result: string) => metric(bridge, `causeway_request_replies_total{result="${result}"}`)

/** Subscribes to `q/#` and hands each request, and how to answer it, to `respond`. */
async function responder(url: string, respond: (request: IPublishPacket, answer: (payload: string, correlationData?: Buffer) => Promise<unknown>) => void) {
  const client = await mqttClient(url, { protocolVersion: 5 })
  client.on('message', (_topic, _payload, request) => {
    const { responseTopic, correlationData } = request.properties!
    respond(request, (payload, other) => client.publishAsync(responseTopic!, payload, { qos: 1, properties: { correlationData: other ?? correlationData! } }))
  })
  await client.subscribeAsync('q/#', { qos: 1 })
}

describe.skipIf(!hasMosquitto)('on Mosquitto', () => {
  async function startBoth(settings = {}) {
    const broker = await startMosquitto()
    return { broker, bridge: await startBridge({ MQTT_URL: broker.url, ...settings }) }
  }

  test('a responder on paho gets the request, and the caller its reply', async () => {
    const { broker, bridge } = await startBoth()
    const script = fileURLToPath(new URL('../support/paho_responder.py', import.meta.url))
    const child = spawn('/usr/bin/python3', [script, String(broker.port)], { stdio: ['ignore', 'pipe', 'inherit'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    await once(child.stdout, 'data')
    const answer = await ask(bridge, 'hello')
    expect([answer.status, answer.headers.get('content-type'), await answer.text()]).toEqual([200, 'text/x-answer', 'HELLO'])
    expect(JSON.parse(decodeURIComponent(answer.headers.get('mqtt-user-properties')!))).toEqual({ asked: 'q/a' })
  })

  test('many at once get each their own reply, in whatever order they come', async () => {
    const { broker, bridge } = await startBoth()
    const pending: (() => void)[] = []
    await responder(broker.url, ({ payload }, answer) => {
      pending.push(() => void answer(`re ${payload}`))
      if (pending.length === 50) for (const send of pending.reverse()) send()
    })
    const answers = await Promise.all(Array.from({ length: 50 }, async (_, index) => (await ask(bridge, String(index))).text()))
    expect(answers).toEqual(Array.from({ length: 50 }, (_, index) => `re ${index}`))
    expect(await metric(bridge, 'causeway_requests_waiting')).toBe(0)
  })

  test('nobody there is a 404, nobody answering a 504', async () => {
    const { broker, bridge } = await startBoth()
    expect(await (await ask(bridge, 'x')).json()).toMatchObject({ status: 404, code: 'no-responder' })
    await responder(broker.url, () => {})
    expect(await (await ask(bridge, 'x', 'topic=q/a&timeout=100')).json()).toMatchObject({ status: 504, code: 'no-reply' })
    expect(await metric(bridge, 'causeway_requests_waiting')).toBe(0)
  })

  test('late, double and foreign replies are counted and dropped', async () => {
    const { broker, bridge } = await startBoth()
    await responder(broker.url, async (_request, answer) => {
      await answer('forged', Buffer.alloc(24, 1))
      await answer('right')
      await answer('twice')
    })
    expect(await (await ask(bridge, 'x')).text()).toBe('right')
    await expect.poll(async () => [await replies(bridge, 'delivered'), await replies(bridge, 'late'), await replies(bridge, 'foreign')]).toEqual([1, 1, 1])
  })

  test('over the limit is a 503, and a caller that leaves makes room', async () => {
    const { broker, bridge } = await startBoth({ REQUESTS_MAX: 1 })
    await responder(broker.url, () => {})
    const left = new AbortController()
    const waiting = fetch(`${bridge.url}/request?topic=q/a&timeout=60000`, { method: 'POST', body: 'x', signal: left.signal })
    await expect.poll(() => metric(bridge, 'causeway_requests_waiting')).toBe(1)
    expect(await (await ask(bridge, 'y')).json()).toMatchObject({ status: 503, code: 'overloaded', outcome: 'not-sent' })
    left.abort()
    await expect(waiting).rejects.toThrow()
    await expect.poll(() => metric(bridge, 'causeway_requests_waiting')).toBe(0)
  })

  test('works again when the broker has come back without its sessions', async () => {
    const { broker, bridge } = await startBoth()
    await responder(broker.url, (_request, answer) => void answer('first'))
    expect(await (await ask(bridge, 'x')).text()).toBe('first')
    await broker.kill()
    await broker.start()
    await responder(broker.url, (_request, answer) => void answer('second'))
    await expect.poll(async () => (await ask(bridge, 'x', 'topic=q/a&timeout=1000')).text(), { timeout: 15_000 }).toBe('second')
  })

  test('response topic and correlation data are not the caller’s to set', async () => {
    const { bridge } = await startBoth()
    const body = JSON.stringify({ topic: 'q/a', properties: { responseTopic: 'x', correlationData: 'AA==' } })
    const answer = await fetch(`${bridge.url}/request`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    const { errors } = (await answer.json()) as { errors: { pointer: string }[] }
    expect(errors.map(({ pointer }) => pointer)).toEqual(['#/properties/responseTopic', '#/properties/correlationData'])
  })
})

test('a broker that speaks only MQTT 3.1.1 cannot', async () => {
  const bridge = await startBridge()
  expect(await (await ask(bridge, 'x')).json()).toMatchObject({ status: 501, code: 'requests-not-supported' })
})
