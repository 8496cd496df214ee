import { expect, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { openStream } from '../support/stream.ts'

const MESSAGES = 8000

// While the process is stopped its sockets fill. When it continues, one turn of the event loop reads all of that.
test.skipIf(!hasMosquitto)(
  'a reader that reads misses nothing of a burst longer than the log, though it all comes in one turn of the loop',
  async () => {
    const { url } = await startMosquitto({ config: ['max_queued_messages 0'] })
    const bridge = spawnBridge({ MQTT_URL: url, STREAM_LOG_MESSAGES: 1000 })
    const stream = await openStream(`${await bridge.url}/subscribe?topic=a&retained=false`)
    const outside = await mqttClient(url)
    bridge.kill('SIGSTOP')
    for (let index = 0; index < MESSAGES; index += 1) outside.publish('a', `${index}`)
    // Its acknowledgement comes after the broker has handled all messages before it.
    await outside.publishAsync('other', '', { qos: 1 })
    bridge.kill('SIGCONT')
    await expect.poll(() => stream.events.at(-1)?.data.payload, { timeout: 20_000 }).toBe(`${MESSAGES - 1}`)
    expect(stream.events.map(({ event, data }) => (event === 'message' ? Number(data.payload) : event))).toEqual(
      Array.from({ length: MESSAGES }, (_, index) => index),
    )
  },
)
