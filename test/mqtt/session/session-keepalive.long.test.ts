import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { acknowledge, count, numbers, openSession, told } from '../../support/session.ts'

const KEEPALIVE_S = 2
/** Ten times as long as a broker waits for a packet before it closes the connection (MQTT 5 section 3.1.2.10). */
const HELD_MS = 10 * 1.5 * KEEPALIVE_S * 1000

test.runIf(hasMosquitto)(
  'with a full window the connection is kept for ten times as long as a broker waits for a packet',
  { timeout: HELD_MS + 60_000 },
  async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({
      MQTT_URL: broker.url,
      MQTT_KEEPALIVE_S: KEEPALIVE_S,
      SESSION_MAX_UNACKED: 10,
      STREAM_HEARTBEAT_MS: 1000,
    })
    const reader = await openSession(bridge, { ack: 'explicit' })
    await count(bridge, 0, 40)
    await reader.take(10)
    // The behaviour under test is that nothing happens in this time, so there is no event to wait for.
    await delay(HELD_MS)
    expect(reader.events).toHaveLength(11)
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="session"}')).toBe(0)
    for (let got = 20; got <= 40; got += 10) {
      await acknowledge(bridge, reader, reader.events.at(-1)!)
      expect(told(await reader.take(10))).toEqual(numbers(got - 10, got))
    }
    expect(reader.events.every(({ event }) => event !== 'gap' && event !== 'status')).toBe(true)
  },
)
