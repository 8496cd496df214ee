import { cpuSeconds } from '../process-costs.ts'
import type { Sample, Scenario } from '../scenario.ts'
import { startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'
import { startLeastBridge } from '../servers/start-least-bridge.ts'
import type { Stage } from '../stage.ts'

const CONNECTIONS = 64
/** Length of the warm-up and of the measurement, in seconds. */
export const TIMES = {
  check: { warmUp: 0.1, seconds: 1 },
  quick: { warmUp: 0.3, seconds: 0.6 },
  full: { warmUp: 3, seconds: 8 },
}

/** On a warm server, after a warm-up. The processor time is of all requests. */
export async function measurePublish(
  stage: Stage,
  { port, pid }: { port: number; pid: number },
  qos: number,
  times: { warmUp: number; seconds: number },
): Promise<Sample> {
  const before = cpuSeconds(pid)
  const { answered, ...sample } = await stage
    .worker('load/posts.ts')
    .call<Sample & { answered: number }>('run', { port, connections: CONNECTIONS, qos, ...times })
  return { ...sample, cpu: ((cpuSeconds(pid) - before) * 1e6) / answered }
}

function publish(qos: 0 | 1 | 2, atLeast: number): Scenario {
  return {
    name: `publish-qos-${qos}`,
    title: `POST /publish, QoS ${qos}, one message a request, ${CONNECTIONS} connections`,
    subjects: {
      causeway: {
        title: 'Causeway',
        async measure(stage, effort) {
          const { url } = await startMosquitto(stage)
          return measurePublish(stage, await startBridge(stage, { MQTT_URL: url }), qos, TIMES[effort])
        },
      },
      bare: {
        title: 'bare Fastify route',
        async measure(stage, effort) {
          const server = stage.baseline('servers/bare-fastify.ts')
          return measurePublish(stage, { port: await server.call('listen'), pid: server.pid }, qos, TIMES[effort])
        },
      },
      least: {
        title: 'least bridge',
        async measure(stage, effort) {
          const { port } = await startMosquitto(stage)
          return measurePublish(stage, await startLeastBridge(stage, port), qos, TIMES[effort])
        },
      },
    },
    rows: [
      {
        what: 'rate',
        unit: 'requests/s',
        subject: 'causeway',
        metric: 'rate',
        beside: { subject: 'bare', metric: 'rate' },
        target: { atLeast },
      },
      {
        what: 'rate',
        unit: 'requests/s',
        subject: 'causeway',
        metric: 'rate',
        beside: { subject: 'least', metric: 'rate' },
        target: { atLeast: 0.92 },
      },
      {
        what: 'rate of the least bridge in its place',
        unit: 'requests/s',
        subject: 'least',
        metric: 'rate',
        beside: { subject: 'bare', metric: 'rate' },
      },
      {
        what: 'p99',
        unit: 'ms',
        subject: 'causeway',
        metric: 'p99',
        beside: { subject: 'bare', metric: 'p99' },
        ...(qos === 1 && { target: { atMost: 2 } }),
      },
      {
        what: 'p99',
        unit: 'ms',
        subject: 'causeway',
        metric: 'p99',
        beside: { subject: 'least', metric: 'p99' },
        target: { atMost: 1.5 },
      },
      {
        what: 'processor time',
        unit: 'µs/request',
        subject: 'causeway',
        metric: 'cpu',
        beside: { subject: 'bare', metric: 'cpu' },
      },
      {
        what: 'processor time',
        unit: 'µs/request',
        subject: 'causeway',
        metric: 'cpu',
        beside: { subject: 'least', metric: 'cpu' },
      },
      { what: 'failed', unit: '', subject: 'causeway', metric: 'failed', target: { atMost: 0 } },
    ],
  }
}

export const publishes = [publish(1, 0.85), publish(0, 0.8), publish(2, 0.6)]
