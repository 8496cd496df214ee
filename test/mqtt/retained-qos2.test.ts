import { describe, expect, test } from 'vitest'
import { BROKERS, metric, startBridge } from '../support/bridge.ts'
import { get, publish } from '../support/http.ts'
import { openStream } from '../support/stream.ts'

describe.each(BROKERS)('on $name', ({ start }) => {
  test('reading or subscribing to messages retained at QoS 2 closes no connection', async () => {
    const bridge = await startBridge(await start())
    for (const topic of ['r/1', 'r/2']) await publish(bridge, { topic, payload: 'x', qos: 2, retain: true })
    for (const filter of ['r/1', 'r/%23', 'r/1', 'r/+']) {
      expect((await get(bridge, `/retained?topic=${filter}`)).status).toBe(200)
      const stream = await openStream(`${bridge.url}/subscribe?topic=${filter}&qos=2`)
      expect((await stream.next()).data).toMatchObject({ retain: true })
    }
    for (const role of ['subscribe', 'retained', 'publish']) {
      expect(await metric(bridge, `causeway_mqtt_reconnects_total{role="${role}"}`)).toBe(0)
    }
  })
})
