import { expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish } from '../../support/http.ts'
import { openSession, told } from '../../support/session.ts'

const CONNECTED = 'causeway_mqtt_connections{role="session",state="connected"}'

// Like a load balancer that sends each connection to a different replica.
test.runIf(hasMosquitto)(
  'a reader that moves to another bridge and comes back while the first still waits for it goes on there',
  async () => {
    const settings = { MQTT_URL: (await startMosquitto()).url, STREAM_LINGER_MS: 60_000 }
    const [one, other] = await Promise.all([startBridge(settings), startBridge(settings)])
    const first = await openSession(one, { ack: 'explicit' })
    first.close()
    await expect.poll(() => metric(one, CONNECTED)).toBe(0)
    const moved = await openSession(other, { ack: 'explicit', lastEventId: first.about.id })
    await publish(other, { topic: 'a', payload: '0' })
    await moved.next()
    moved.close()
    await expect.poll(() => metric(other, CONNECTED)).toBe(0)
    const back = await openSession(one, { ack: 'explicit', lastEventId: moved.about.id })
    expect(told([await back.next()])).toEqual(['!0'])
  },
)
