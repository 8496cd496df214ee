import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, startBridge } from '../../support/bridge.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { randomRun } from '../../support/storm/random-run.ts'
import { openStream, type StreamReader } from '../../support/stream.ts'

/** Streams that join, in rounds of five. */
const { operations: JOINS } = randomRun({ brief: 10, long: 50 })
const TOPICS = ['a/1', 'a/2', 'a/3']
/** Number of simultaneous messages: more than Mosquitto keeps in flight, so that some wait for acknowledgements. */
const BURST = 30

/** The versions of a topic that a stream delivered, in order. */
function versions(stream: StreamReader, topic: string): number[] {
  return stream.events.filter(({ data }) => data.topic === topic).map(({ data }) => Number(data.payload))
}

describe.each(BROKERS)('streams that join on $name', ({ start }) => {
  test.each([0, 1] as const)(
    'while retained messages change all the time at QoS %i miss no version and get none twice',
    async (qos) => {
      const settings = await start()
      const bridge = await startBridge(settings)
      const outside = await mqttClient(brokerUrl(bridge, settings))
      let version = 0
      let joining = true
      async function change(): Promise<void> {
        const burst = []
        for (; burst.length < BURST; version += 1) {
          burst.push(...TOPICS.map((topic) => outside.publishAsync(topic, `${version}`, { qos, retain: true })))
        }
        await Promise.all(burst)
      }
      await change()
      const observer = await openStream(`${bridge.url}/subscribe?topic=a/%2B&retained=false`)
      const changes = (async () => {
        while (joining) {
          await change()
          // Not faster than readers read. Otherwise the test would measure buffers.
          await observer.take(BURST)
        }
      })()
      const streams: StreamReader[] = []
      for (let joined = 0; joined < JOINS; joined += 5) {
        // A single message, and a burst.
        streams.push(await openStream(`${bridge.url}/subscribe?topic=a/%2B`))
        const burst = ['a/%23', 'a/%2B', 'a/%23&topic=a/1', 'a/%2B'].map((filters) =>
          openStream(`${bridge.url}/subscribe?topic=${filters}`),
        )
        streams.push(...(await Promise.all(burst)))
      }
      joining = false
      await changes
      for (const stream of streams) {
        for (const topic of TOPICS) {
          await expect.poll(() => versions(stream, topic).at(-1), { timeout: 10_000 }).toBe(version - 1)
          const seen = versions(stream, topic)
          expect(seen).toEqual(Array.from({ length: seen.length }, (_, index) => seen[0]! + index))
        }
        expect(stream.events.every(({ event }) => event === 'message')).toBe(true)
      }
      for (const stream of [observer, ...streams]) stream.close()
      await expectNothingLeft(bridge)
    },
  )
})
