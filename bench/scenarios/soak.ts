import { writeFileSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import type { Delivered } from '../load/sure-deliveries.ts'
import { residentBytes } from '../process-costs.ts'
import type { Sample, Scenario } from '../scenario.ts'
import { startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'
import type { Stage } from '../stage.ts'
import { median } from '../statistics.ts'
import { mqttPublisher } from './fan-out.ts'

const MINUTES = { check: 0.02, quick: 0.2, full: 30 }
const SAMPLES = { check: 5, quick: 120, full: 120 }
/** The part of the run that is left out of the comparison of memory: 5 of 30 minutes. */
const WARM = 1 / 6
const READERS = { check: 5, quick: 200, full: 200 }
const SETTLE_MS = 15_000
const COMING_AND_GOING = { check: 3, quick: 50, full: 50 }

/** On a connection of its own, which is one of the handles that are counted, each time. */
async function countOpen(port: number, name: string): Promise<number> {
  const url = `http://127.0.0.1:${port}/metrics`
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(url, { agent: false }, resolve).on('error', reject)
  })
  return Number(new RegExp(`^${name}(?:{[^}]*})? (\\d+)`, 'm').exec(await text(response))?.[1] ?? 0)
}

async function soak(stage: Stage, effort: keyof typeof MINUTES): Promise<Sample> {
  const seconds = MINUTES[effort] * 60
  const broker = await startMosquitto(stage)
  const sure = stage.worker('load/sure-deliveries.ts')
  const pushFile = join(stage.directory(), 'push.json')
  writeFileSync(pushFile, JSON.stringify([{ name: 'soak', topics: ['sure'], url: await sure.call<string>('listen') }]))
  const settings = {
    MQTT_URL: broker.url,
    PUSH_FILE: pushFile,
    STREAM_LINGER_MS: 1000,
    // On a busy machine the broker is slow for a while. That is no failure here.
    PUBLISH_WAIT_MS: 10_000,
  }
  const bridge = await startBridge(stage, settings, stage.dist, ['--max-old-space-size=256'])
  const { port } = bridge
  const handles = () => countOpen(port, 'nodejs_active_handles_total')
  while ((await countOpen(port, 'causeway_push_active')) === 0) await delay(50)
  await delay(500)
  const handlesBefore = await handles()

  const [steady, changing] = [stage.worker('load/readers.ts'), stage.worker('load/readers.ts')]
  await steady.call('open', { port, paths: ['/subscribe?topic=bench-0'], count: READERS[effort] })
  await steady.call('mark')
  await sure.call('begin', { port })
  let isOver = false
  const samples: number[] = []
  const watching = (async () => {
    for (let round = 0; !isOver; round += 1) {
      // Streams with changing filters, some of them with wildcards.
      await changing.call('open', {
        port,
        paths: [
          `/subscribe?topic=bench/${round % 64}`,
          `/subscribe?topic=bench/%2B/${round}`,
          '/subscribe?topic=bench/%23',
        ],
        count: COMING_AND_GOING[effort],
      })
      samples.push(residentBytes(bridge.pid))
      await delay((seconds * 1000) / SAMPLES[effort])
      await changing.call('close', { count: COMING_AND_GOING[effort] })
    }
  })()
  const publisher = await mqttPublisher(stage, broker.port)
  const [events, posts, batch] = await Promise.all([
    publisher.call<{ sent: number }>('steadily', { topics: ['bench-0'], rate: 100, seconds }),
    stage
      .worker('load/posts.ts')
      .call<{ failed: number }>('run', { port, connections: 16, qos: 1, warmUp: 0, seconds, rate: 500 }),
    stage.worker('load/batch.ts').call<{ failed: number }>('run', { port, warmUp: 0, seconds, rate: 1000 }),
  ])
  const deliveries = await sure.call<Delivered>('end')
  isOver = true
  await watching
  const { incomplete } = await steady.call<{ incomplete: number }>('settle', { each: events.sent })
  await steady.call('close', { count: READERS[effort] })
  // Filters stay subscribed for the linger, one second, and idle connections to the push endpoint for some more.
  const settledBy = performance.now() + SETTLE_MS
  let left = { handles: Infinity, filters: Infinity }
  while (left.handles + left.filters > 0 && performance.now() < settledBy) {
    await delay(500)
    const more = (await handles()) - handlesBefore
    left = { handles: Math.max(0, more), filters: await countOpen(port, 'causeway_subscription_filters') }
  }
  const warm = samples.slice(Math.ceil(samples.length * WARM))
  const third = Math.ceil(warm.length / 3)
  return {
    growth: median(warm.slice(-third)) / median(warm.slice(0, third)),
    resident: median(warm.slice(-third)) / 1_048_576,
    ...left,
    failed: posts.failed + batch.failed + deliveries.failed,
    incomplete,
    missedBySession: deliveries.missedBySession,
    missedByPush: deliveries.missedByPush,
  }
}

export const soakScenario: Scenario = {
  name: 'soak',
  title: '30 minutes of posts, a batch, a push, a session, steady readers and readers that come and go, heap of 256 MB',
  long: true,
  subjects: { causeway: { title: 'Causeway', measure: soak } },
  rows: [
    {
      what: 'resident memory, last third beside first, after 5 minutes',
      unit: '×',
      subject: 'causeway',
      metric: 'growth',
      target: { atMost: 1.05 },
    },
    { what: 'resident memory at the end', unit: 'MB', subject: 'causeway', metric: 'resident' },
    { what: 'handles left behind', unit: '', subject: 'causeway', metric: 'handles', target: { atMost: 0 } },
    { what: 'filters left behind', unit: '', subject: 'causeway', metric: 'filters', target: { atMost: 0 } },
    { what: 'requests that failed', unit: '', subject: 'causeway', metric: 'failed', target: { atMost: 0 } },
    {
      what: 'readers that missed an event',
      unit: '',
      subject: 'causeway',
      metric: 'incomplete',
      target: { atMost: 0 },
    },
    {
      what: 'messages that a session missed',
      unit: '',
      subject: 'causeway',
      metric: 'missedBySession',
      target: { atMost: 0 },
    },
    {
      what: 'messages that were not pushed',
      unit: '',
      subject: 'causeway',
      metric: 'missedByPush',
      target: { atMost: 0 },
    },
  ],
}
