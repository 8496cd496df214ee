import { readFileSync } from 'node:fs'
import { pino } from 'pino'
import { onTestFinished, vi } from 'vitest'
import { type App, startApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'
import { hasMosquitto, startMosquitto } from './broker.ts'

export interface Bridge extends App {
  /** Every log line so far, parsed; without the warning about a broker that the first attempt did not reach. */
  logs: Record<string, unknown>[]
}

/** Settings without the prefix `CAUSEWAY_`, such as `{ MQTT_URL: … }`. */
export type Settings = Record<string, string | number | boolean>

/** How long a bridge may take to reach its broker on a busy machine. */
const BROKER_TIMEOUT_MS = 20_000

/**
 * Starts a bridge in this process on a free port, on its embedded broker unless MQTT_URL is set. It closes with the
 * test. Resolves when the bridge is connected to its broker.
 * @param options `waitForBroker: false` for a test whose broker is missing or refuses the bridge
 */
export async function startBridge(
  settings: Settings = {},
  { waitForBroker = true }: { waitForBroker?: boolean } = {},
): Promise<Bridge> {
  const logs: Record<string, unknown>[] = []
  // Publishes that come all at once wait longer on a busy machine than they may by default.
  const defaults: Settings = {
    HTTP_PORT: 0,
    EMBEDDED_PORT: 0,
    STREAM_LINGER_MS: 0,
    PUBLISH_WAIT_MS: 5000,
    PUBLISH_TIMEOUT_MS: 5000,
  }
  const env = Object.entries({ ...defaults, ...settings }).map(
    ([name, value]) => [`CAUSEWAY_${name}`, String(value)] as const,
  )
  const readFile = (path: string) => readFileSync(path, 'utf8')
  const config = loadConfig(Object.fromEntries(env), readFile)
  const logger = pino({ level: 'debug' }, { write: (line: string) => void logs.push(JSON.parse(line)) })
  const app = await startApp({ config, readFile, logger, version: '0.0.0-test' })
  onTestFinished(() => app.close())
  // The bridge listens after its first attempt to connect. On a busy machine that may fail, with a warning that says
  // nothing about the test and is removed here.
  if (waitForBroker) {
    await vi.waitUntil(app.isReachable, { timeout: BROKER_TIMEOUT_MS }).catch(() => {
      const log = logs.map((line) => JSON.stringify(line)).join('\n')
      throw new Error(`The bridge did not reach its broker; without one, pass { waitForBroker: false }:\n${log}`)
    })
    const warning = logs.findIndex(({ msg }) => String(msg).startsWith('the broker cannot be reached'))
    if (warning >= 0) logs.splice(warning, 1)
  }
  return Object.assign(app, { logs })
}

/** The brokers that most behaviour is tested on. `start` starts one and returns the settings of a bridge for it. */
export const BROKERS: { name: string; protocol: 5 | 4; start: () => Promise<Settings> }[] = [
  { name: 'embedded broker, MQTT 5', protocol: 5, start: async () => ({}) },
  { name: 'embedded broker, MQTT 3.1.1', protocol: 4, start: async () => ({ MQTT_PROTOCOL: '3.1.1' }) },
  ...(hasMosquitto
    ? [
        {
          name: 'Mosquitto, MQTT 5',
          protocol: 5 as const,
          start: async () => ({ MQTT_URL: (await startMosquitto()).url }),
        },
        {
          name: 'Mosquitto, MQTT 3.1.1',
          protocol: 4 as const,
          start: async () => ({ MQTT_URL: (await startMosquitto()).url, MQTT_PROTOCOL: '3.1.1' }),
        },
      ]
    : []),
]

/** The URL of the broker that a bridge with these settings uses. */
export function brokerUrl(bridge: Bridge, settings: Settings): string {
  return bridge.embeddedUrl ?? String(settings['MQTT_URL'])
}

/** The value of one series of the metrics, such as `causeway_x{role="publish"}`. Each has to exist from the start. */
export async function metric(bridge: Pick<Bridge, 'adminUrl'>, series: string): Promise<number> {
  const text = await (await fetch(`${bridge.adminUrl}/metrics`)).text()
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `))
  if (line === undefined) throw new Error(`there is no series ${series}`)
  return Number(line.slice(series.length + 1))
}
