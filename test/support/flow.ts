import type { MqttClient } from 'mqtt'
import { residentBytes } from '../../bench/process-costs.ts'
import type { Settings } from './bridge.ts'
import { hasMosquitto, startMosquitto } from './broker.ts'
import { freePort } from './free-port.ts'

/** Brokers, each with its URL and the settings of a bridge process that uses it. */
export const PROCESS_BROKERS: { name: string; start: () => Promise<{ settings: Settings; url: string }> }[] = [
  {
    name: 'embedded broker',
    async start() {
      const port = await freePort()
      return { settings: { EMBEDDED_PORT: port }, url: `mqtt://127.0.0.1:${port}` }
    },
  },
  ...(hasMosquitto
    ? [
        {
          name: 'Mosquitto',
          async start() {
            const { url } = await startMosquitto()
            return { settings: { MQTT_URL: url }, url }
          },
        },
      ]
    : []),
]

const MESSAGE_BYTES = 50_000
const BATCH = 20

/**
 * Publishes messages of 50 KB to `a` whose payloads begin with their number, `from` included and `to` excluded. After
 * each 20 it waits until all `readers` have them. Resolves with the highest resident memory of the process meanwhile,
 * in bytes.
 */
export async function flow(
  client: MqttClient,
  pid: number,
  readers: { until(count: number): Promise<void> }[],
  from: number,
  to: number,
): Promise<number> {
  let most = 0
  for (let sent = from; sent < to; sent += BATCH) {
    await Promise.all(
      Array.from({ length: BATCH }, (_, index) =>
        client.publishAsync('a', `${sent + index} `.padEnd(MESSAGE_BYTES, 'x'), { qos: 1 }),
      ),
    )
    await Promise.all(readers.map((reader) => reader.until(sent + BATCH)))
    most = Math.max(most, residentBytes(pid))
  }
  return most
}
