import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { publish } from '../../support/http.ts'
import { openBatch } from '../../support/ndjson.ts'
import { isPublisher, startScriptedBroker } from '../../support/scripted-broker.ts'

/** A broker that acknowledges each publish `delayMs` after it came, and remembers the payloads. */
async function slowBroker(delayMs: () => number) {
  const payloads: string[] = []
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'publish' || !isPublisher(peer)) return false
    payloads.push(packet.payload.toString())
    setTimeout(() => peer.send({ cmd: 'puback', messageId: packet.messageId! }), delayMs())
    return true
  })
  return { ...broker, payloads }
}

describe('a broker that is slow, but answers', () => {
  test('keeps its connection, and gets nothing that it could not acknowledge in time', async () => {
    const broker = await slowBroker(() => 200)
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1, PUBLISH_TIMEOUT_MS: 2000 })
    const answers: Awaited<ReturnType<typeof publish>>[] = []
    let index = 0
    // Three times of what 20 in flight and 200 ms allow, for three seconds.
    for (let burst = 0; burst < 30; burst += 1) {
      const sending = Array.from({ length: 30 }, () => publish(bridge, { topic: 'a', payload: `${index++}` }))
      void Promise.all(sending).then((some) => answers.push(...some))
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    await expect.poll(() => answers.length, { timeout: 20_000 }).toBe(900)
    const statuses = new Set(answers.map(({ status }) => status))
    expect([...statuses].toSorted()).toEqual([200, 503])
    const refused = answers.filter(({ status }) => status === 503)
    for (const { body, headers } of refused) {
      expect(body).toMatchObject({ code: 'overloaded', retryable: true, outcome: 'not-sent' })
      expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
    }
    // Each message that arrived is one whose caller got 200.
    expect(broker.payloads).toHaveLength(900 - refused.length)
    expect(new Set(broker.payloads).size).toBe(broker.payloads.length)
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}')).toBe(0)
  })

  test('whose acknowledgements all come too late is not cut off, and is used again when it is faster', async () => {
    let delayMs = 1000
    const broker = await slowBroker(() => delayMs)
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1, PUBLISH_TIMEOUT_MS: 900 })
    const answers: Promise<{ status: number }>[] = []
    for (let count = 0; count < 60; count += 1) {
      answers.push(publish(bridge, { topic: 'a' }))
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    const statuses = (await Promise.all(answers)).map(({ status }) => status)
    expect(statuses.filter((status) => status === 200)).toEqual([])
    // Once the broker is known to be that slow, most are not sent at all.
    expect(statuses.filter((status) => status === 503).length).toBeGreaterThan(20)
    delayMs = 0
    await expect.poll(async () => (await publish(bridge, { topic: 'a' })).status, { timeout: 10_000 }).toBe(200)
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}')).toBe(0)
  })

  test('lets a batch wait, and no message of it fails', async () => {
    const broker = await slowBroker(() => 100)
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1, PUBLISH_TIMEOUT_MS: 1000 })
    const conversation = openBatch(bridge.url)
    for (let index = 0; index < 400; index += 1) conversation.send('{"topic":"a"}\n')
    conversation.end()
    const results = await conversation.rest()
    expect(results.filter(({ status }) => status === 200)).toHaveLength(400)
  })
})
