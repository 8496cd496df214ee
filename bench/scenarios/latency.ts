import type { Pace, RoundTrips } from '../load/pace.ts'
import type { Effort, Sample, Scenario } from '../scenario.ts'
import { startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'
import { startLeastBridge } from '../servers/start-least-bridge.ts'
import { percentile } from '../statistics.ts'

const EVERY_MS = 10
const PACES: Record<Effort, Pace> = {
  check: { count: 5, warmUp: 5, everyMs: EVERY_MS },
  quick: { count: 60, warmUp: 1000, everyMs: EVERY_MS },
  full: { count: 1000, warmUp: 10_000, everyMs: EVERY_MS },
}

/** Without the first fifth: it runs code for the first time, or follows directly on the load of the warm-up. */
function later(latencies: number[]): number[] {
  return latencies.slice(Math.floor(latencies.length / 5))
}

function summary(latencies: RoundTrips): Sample {
  const [cold, warm] = [later(latencies.cold), later(latencies.warm)]
  return {
    p50: percentile(warm, 0.5),
    p99: percentile(warm, 0.99),
    coldP50: percentile(cold, 0.5),
    coldP99: percentile(cold, 0.99),
  }
}

export const latency: Scenario = {
  name: 'latency',
  title: '100 messages a second, from POST to event, beside MQTT.js publish to MQTT.js message',
  subjects: {
    causeway: {
      title: 'Causeway',
      async measure(stage, effort) {
        const { url } = await startMosquitto(stage)
        const { port } = await startBridge(stage, { MQTT_URL: url })
        return summary(await stage.worker('load/round-trips.ts').call('run', { port, ...PACES[effort] }))
      },
    },
    least: {
      title: 'least bridge, and the obvious server’s stream',
      async measure(stage, effort) {
        const { port: mqttPort, url } = await startMosquitto(stage)
        const { port } = await startLeastBridge(stage, mqttPort)
        const streamPort = await stage.baseline('servers/obvious.ts').call('listen', { mqttUrl: url })
        return summary(
          await stage.worker('load/round-trips.ts').call('run', { port, streamPort, path: '/', ...PACES[effort] }),
        )
      },
    },
    mqttJs: {
      title: 'MQTT.js',
      async measure(stage, effort) {
        const { url } = await startMosquitto(stage)
        return summary(await stage.baseline('load/mqtt-js.ts').call('roundTrips', { url, ...PACES[effort] }))
      },
    },
  },
  rows: [
    {
      what: 'p50',
      unit: 'ms',
      subject: 'causeway',
      metric: 'p50',
      beside: { subject: 'mqttJs', metric: 'p50' },
      target: { atMost: 3 },
    },
    {
      what: 'p50 of the least bridge and the obvious server in its place',
      unit: 'ms',
      subject: 'least',
      metric: 'p50',
      beside: { subject: 'mqttJs', metric: 'p50' },
    },
    { what: 'p99', unit: 'ms', subject: 'causeway', metric: 'p99', beside: { subject: 'mqttJs', metric: 'p99' } },
    {
      what: 'p50 in the first seconds',
      unit: 'ms',
      subject: 'causeway',
      metric: 'coldP50',
      beside: { subject: 'mqttJs', metric: 'coldP50' },
    },
    {
      what: 'p99 in the first seconds',
      unit: 'ms',
      subject: 'causeway',
      metric: 'coldP99',
      beside: { subject: 'mqttJs', metric: 'coldP99' },
    },
  ],
}
