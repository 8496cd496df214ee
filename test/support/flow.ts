import type { MqttClient } from 'mqtt'
import { residentBytes } from '../../bench/process-costs.ts'
import type { Settings } from './bridge.ts'
import { hasMosquitto, startMosquitto } from './broker.ts'
import { freePort } from './free-port.ts'

/** Brokers with the settings of a bridge process for each. */
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
const TOGETHER = 20

/**
 * Publishes messages of 50 KB that begin with their number, the first one included and the last one not, no faster than
 * these readers take them. Resolves with the most memory that the process had meanwhile, in bytes.
 */
export async function flow(
  client: MqttClient,
  pid: number,
  readers: { until(count: number): Promise<void> }[],
  from: number,
  to: number,
): Promise<number> {
  let most = 0
  for (let sent = from; sent < to; sent += TOGETHER) {
    await Promise.all(
      Array.from({ length: TOGETHER }, (_, index) =>
        client.publishAsync('a', `${sent + index} `.padEnd(MESSAGE_BYTES, 'x'), { qos: 1 }),
      ),
    )
    await Promise.all(readers.map((reader) => reader.until(sent + TOGETHER)))
    most = Math.max(most, residentBytes(pid))
  }
  return most
}
