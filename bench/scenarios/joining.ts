import { connectAsync } from 'mqtt'
import type { Joined } from '../load/joiners.ts'
import { markedPayload } from '../load/payload.ts'
import { cpuSeconds } from '../process-costs.ts'
import type { Effort, Sample, Scenario } from '../scenario.ts'
import { startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'
import type { Stage } from '../stage.ts'

const SIZES = {
  check: { readers: 10, retained: 20 },
  quick: { readers: 1000, retained: 1000 },
  full: { readers: 1000, retained: 1000 },
}
/** Messages a second that go to another stream meanwhile, and for how long. */
const ELSEWHERE = { rate: 1000, seconds: { check: 1, quick: 10, full: 10 } }

/** The seconds, and the milliseconds of the server's processor time for each megabyte that it wrote. */
async function measure(
  stage: Stage,
  { pid, port, path }: { pid: number; port: number; path: string },
  effort: Effort,
): Promise<Sample> {
  const { readers, retained } = SIZES[effort]
  const joiners = stage.worker('load/joiners.ts')
  const before = cpuSeconds(pid)
  const { first, all, megabytes } = await joiners.call<Joined>('join', { port, path, count: readers, each: retained })
  return { first, all, cpu: ((cpuSeconds(pid) - before) * 1000) / megabytes }
}

export const joining: Scenario = {
  name: 'joining',
  title: '1,000 readers come at once to 1,000 retained messages, while 1,000 messages/s go elsewhere',
  subjects: {
    causeway: {
      title: 'Causeway',
      async measure(stage, effort) {
        const { url, port: mqttPort } = await startMosquitto(stage, ['max_queued_messages 0'])
        const retaining = await connectAsync(url)
        await Promise.all(
          Array.from({ length: SIZES[effort].retained }, (_, index) =>
            retaining.publishAsync(`bench/joined/${index}`, markedPayload(index), { qos: 1, retain: true }),
          ),
        )
        await retaining.endAsync()
        const bridge = await startBridge(stage, { MQTT_URL: url })
        const paths = ['/subscribe?topic=bench/elsewhere']
        await stage.worker('load/readers.ts').call('open', { port: bridge.port, paths, count: 1 })
        const publisher = stage.worker('load/publisher.ts')
        await publisher.call('connectMqtt', { port: mqttPort })
        const seconds = ELSEWHERE.seconds[effort]
        const publishing = publisher.call('steadily', { topics: ['bench/elsewhere'], rate: ELSEWHERE.rate, seconds })
        const sample = await measure(stage, { ...bridge, path: '/subscribe?topic=bench/joined/%2B' }, effort)
        await publishing
        return sample
      },
    },
    ideal: {
      title: 'the same bytes, written at once',
      async measure(stage, effort) {
        const server = stage.baseline('servers/constant.ts')
        const port = await server.call<number>('listen', { retained: SIZES[effort].retained })
        return measure(stage, { pid: server.pid, port, path: '/retained' }, effort)
      },
    },
  },
  rows: [
    {
      what: 'until the last has its first message',
      unit: 's',
      subject: 'causeway',
      metric: 'first',
      target: { atMost: 2 },
    },
    {
      what: 'until the last has all',
      unit: 's',
      subject: 'causeway',
      metric: 'all',
      beside: { subject: 'ideal', metric: 'all' },
    },
    {
      what: 'processor time for a megabyte',
      unit: 'ms',
      subject: 'causeway',
      metric: 'cpu',
      beside: { subject: 'ideal', metric: 'cpu' },
    },
  ],
}
