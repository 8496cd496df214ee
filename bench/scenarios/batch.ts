import type { Scenario } from '../scenario.ts'
import { startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'

const TIMES = {
  check: { warmUp: 0.1, seconds: 1 },
  quick: { warmUp: 0.3, seconds: 0.6 },
  full: { warmUp: 3, seconds: 8 },
}
/** The default of CAUSEWAY_PUBLISH_CONNECTIONS. */
const CONNECTIONS = 2

export const batch: Scenario = {
  name: 'batch',
  title: 'NDJSON batch, QoS 1, beside MQTT.js on as many connections',
  subjects: {
    causeway: {
      title: 'Causeway',
      async measure(stage, effort) {
        const { url } = await startMosquitto(stage)
        const { port } = await startBridge(stage, { MQTT_URL: url })
        return stage.worker('load/batch.ts').call('run', { port, ...TIMES[effort] })
      },
    },
    mqttJs: {
      title: 'MQTT.js',
      async measure(stage, effort) {
        const { url } = await startMosquitto(stage)
        return stage.baseline('load/mqtt-js.ts').call('publish', { url, connections: CONNECTIONS, ...TIMES[effort] })
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
      target: { atLeast: 0.8 },
    },
    { what: 'failed', unit: '', subject: 'causeway', metric: 'failed', target: { atMost: 0 } },
  ],
}
