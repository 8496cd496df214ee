import { connectAsync, type MqttClient } from 'mqtt'
import { setTimeout as delay } from 'node:timers/promises'
import { answerCalls } from '../answer-calls.ts'
import { measureRoundTrips, type Pace, type RoundTrips } from './pace.ts'
import { markedPayload, now } from './payload.ts'

/** Connects with MQTT.js, over MQTT 5 and with TCP_NODELAY. */
const dial = async (url: string): Promise<MqttClient> => {
  const client = await connectAsync(url, { protocolVersion: 5, properties: { receiveMaximum: 65_535 } })
  ;(client.stream as unknown as { setNoDelay(on: boolean): void }).setNoDelay(true)
  return client
}

let received = 0
let expected = Infinity
let firstAt = 0
let all: Promise<void>
let arrived: () => void

answerCalls({
  /** Publishes at QoS 1 on so many connections, each with as many unacknowledged messages as the broker allows. */
  async publish({
    url,
    connections,
    warmUp,
    seconds,
  }: {
    url: string
    connections: number
    warmUp: number
    seconds: number
  }): Promise<object> {
    let acknowledged = 0
    let failed = 0
    let isOver = false
    for (let index = 0; index < connections; index += 1) {
      const client = await dial(url)
      // MQTT.js does not observe the broker's Receive Maximum; its user has to.
      const { receiveMaximum } =
        (client as unknown as { serverProperties?: { receiveMaximum?: number } }).serverProperties ?? {}
      const next = (message: number): void => {
        if (isOver) return
        client.publish(`bench/${message % 64}`, markedPayload(message), { qos: 1 }, (error) => {
          if (error) failed += 1
          else acknowledged += 1
          next(message + 1)
        })
      }
      for (let message = 0; message < (receiveMaximum ?? 20); message += 1) next(message)
    }
    await delay(warmUp * 1000)
    const [before, startedAt] = [acknowledged, now()]
    await delay(seconds * 1000)
    const rate = (acknowledged - before) / ((now() - startedAt) / 1e6)
    isOver = true
    return { rate, failed }
  },
  async subscribe({ url, filter }: { url: string; filter: string }): Promise<void> {
    const client = await dial(url)
    client.on('message', () => {
      received += 1
      if (received === 1) firstAt = now()
      if (received === expected) arrived()
    })
    await client.subscribeAsync(filter, { qos: 1 })
  },
  /** Begins to count messages. Call it before the first one is published. */
  expect({ count }: { count: number }): void {
    received = 0
    expected = count
    all = new Promise<void>((resolve) => {
      arrived = resolve
    })
  },
  /** Resolves with the messages per second when all expected ones have come. */
  async rate(): Promise<number> {
    await all
    return (expected - 1) / ((now() - firstAt) / 1e6)
  },
  /** The time from a publish at QoS 1 to its arrival at another client, several times. */
  async roundTrips({ url, ...pace }: { url: string } & Pace): Promise<RoundTrips> {
    const [publisher, subscriber] = [await dial(url), await dial(url)]
    await subscriber.subscribeAsync('bench/latency', { qos: 1 })
    return measureRoundTrips((index) => {
      const message = new Promise<void>((resolve) => void subscriber.once('message', () => resolve()))
      publisher.publish('bench/latency', markedPayload(index), { qos: 1 })
      return message
    }, pace)
  },
})
