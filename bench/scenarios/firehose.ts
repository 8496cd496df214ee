import type { Effort, Sample, Scenario } from '../scenario.ts'
import { startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'
import type { Stage } from '../stage.ts'
import { mqttPublisher } from './fan-out.ts'

const MESSAGES = { check: 2000, quick: 50_000, full: 300_000 }
/** By default Mosquitto drops messages when 1,000 are queued for a client, and then the broker would be measured. */
const UNLIMITED = ['max_queued_messages 0']

interface Streams {
  /** The filters, divided equally among the streams. */
  topics: string[]
  streams: number
  settings?: Record<string, number>
}

/** Messages per second that pass through the bridge when more come than it can take. */
export async function throughput(
  stage: Stage,
  effort: Effort,
  { topics, streams, settings = {} }: Streams,
): Promise<Sample> {
  const broker = await startMosquitto(stage, UNLIMITED)
  const { port } = await startBridge(stage, { MQTT_URL: broker.url, ...settings })
  const publisher = await mqttPublisher(stage, broker.port)
  const readers = stage.worker('load/readers.ts')
  const filters = Array.from({ length: streams }, (_, stream) =>
    topics.filter((_topic, index) => index % streams === stream),
  )
  await readers.call('open', {
    port,
    paths: filters.map((some) => `/subscribe?retained=false&${some.map((topic) => `topic=${topic}`).join('&')}`),
    count: streams,
  })
  const burst = async (count: number): Promise<{ events: number; incomplete: number; seconds: number }> => {
    await readers.call('mark')
    await publisher.call('burst', { topics, count })
    return readers.call('settle', { each: count / streams })
  }
  const count = Math.ceil(MESSAGES[effort] / topics.length) * topics.length
  await burst(Math.ceil(count / 4 / topics.length) * topics.length)
  const { events, incomplete, seconds } = await burst(count)
  return { rate: events / seconds, lost: count - events, incomplete }
}

export const firehose: Scenario = {
  name: 'firehose',
  title: 'One reader, more messages than it can take',
  subjects: {
    causeway: {
      title: 'Causeway',
      measure: (stage, effort) => throughput(stage, effort, { topics: ['bench-0'], streams: 1 }),
    },
    mqttJs: {
      title: 'MQTT.js',
      async measure(stage, effort) {
        const { port, url } = await startMosquitto(stage, UNLIMITED)
        const publisher = await mqttPublisher(stage, port)
        const subscriber = stage.baseline('load/mqtt-js.ts')
        await subscriber.call('subscribe', { url, filter: 'bench-0' })
        let rate = 0
        for (const count of [MESSAGES[effort] / 4, MESSAGES[effort]]) {
          await subscriber.call('expect', { count })
          await publisher.call('burst', { topics: ['bench-0'], count })
          rate = await subscriber.call<number>('rate')
        }
        return { rate }
      },
    },
  },
  rows: [
    {
      what: 'rate',
      unit: 'messages/s',
      subject: 'causeway',
      metric: 'rate',
      beside: { subject: 'mqttJs', metric: 'rate' },
      target: { atLeast: 0.7 },
    },
    { what: 'events skipped, with a gap event', unit: '', subject: 'causeway', metric: 'lost' },
  ],
}
