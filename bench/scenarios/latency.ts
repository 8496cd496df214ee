import type { Sample, Scenario } from '../scenario.ts'
import { startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'
import { percentile } from '../statistics.ts'

const COUNTS = { check: 5, quick: 100, full: 1000 }
const EVERY_MS = 10

/** The first ones find code that was never run. */
function summary(latencies: number[]): Sample {
  const warm = latencies.slice(Math.floor(latencies.length / 5))
  return { p50: percentile(warm, 0.5), p99: percentile(warm, 0.99) }
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
        return summary(await stage.worker('load/round-trips.ts').call('run', { port, count: COUNTS[effort], everyMs: EVERY_MS }))
      },
    },
    least: {
      title: 'least bridge, and the obvious server’s stream',
      async measure(stage, effort) {
        const { port: mqttPort, url } = await startMosquitto(stage)
        const port = await stage.baseline('servers/least-bridge.ts').call('listen', { mqttPort })
        const streamPort = await stage.baseline('servers/obvious.ts').call('listen', { mqttUrl: url })
        return summary(await stage.worker('load/round-trips.ts').call('run', { port, streamPort, path: '/', count: COUNTS[effort], everyMs: EVERY_MS }))
      },
    },
    mqttJs: {
      title: 'MQTT.js',
      async measure(stage, effort) {
        const { url } = await startMosquitto(stage)
        return summary(await stage.baseline('load/mqtt-js.ts').call('roundTrips', { url, count: COUNTS[effort], everyMs: EVERY_MS }))
      },
    },
  },
  rows: [
    { what: 'p50', unit: 'ms', subject: 'causeway', metric: 'p50', beside: { subject: 'mqttJs', metric: 'p50' }, target: { atMost: 3 } },
    { what: 'p50 of the least bridge and the obvious server in its place', unit: 'ms', subject: 'least', metric: 'p50', beside: { subject: 'mqttJs', metric: 'p50' } },
    { what: 'p99', unit: 'ms', subject: 'causeway', metric: 'p99', beside: { subject: 'mqttJs', metric: 'p99' } },
  ],
}
