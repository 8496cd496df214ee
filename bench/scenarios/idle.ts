import { setTimeout as delay } from 'node:timers/promises'
import { residentBytes } from '../process-costs.ts'
import type { Scenario } from '../scenario.ts'
import { startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'

const STREAMS = { check: 20, quick: 3000, full: 10_000 }
const SETTLE_S = { check: 0.1, quick: 1, full: 20 }
const HEARTBEAT_MS = { check: 15_000, quick: 1000, full: 15_000 }

export const idle: Scenario = {
  name: 'idle',
  title: '10,000 streams on which nothing comes but heartbeats',
  subjects: {
    causeway: {
      title: 'Causeway',
      async measure(stage, effort) {
        const { url } = await startMosquitto(stage)
        const bridge = await startBridge(stage, { MQTT_URL: url, STREAM_HEARTBEAT_MS: HEARTBEAT_MS[effort] })
        // The first streams also load code and allocate buffers that all streams share.
        const readers = stage.worker('load/readers.ts')
        const open = (count: number) =>
          readers.call('open', { port: bridge.port, paths: ['/subscribe?topic=bench/idle'], count })
        await open(10)
        await delay(SETTLE_S[effort] * 500)
        const before = residentBytes(bridge.pid)
        const count = STREAMS[effort] - 10
        await open(count)
        await delay(SETTLE_S[effort] * 1000)
        return { perStream: (residentBytes(bridge.pid) - before) / count / 1024 }
      },
    },
  },
  rows: [
    { what: 'resident memory of each', unit: 'KB', subject: 'causeway', metric: 'perStream', target: { atMost: 20 } },
  ],
}
