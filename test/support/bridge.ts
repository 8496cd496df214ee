import { readFileSync } from 'node:fs'
import { pino } from 'pino'
import { onTestFinished, vi } from 'vitest'
import { type App, startApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'
import { hasMosquitto, startMosquitto } from './broker.ts'

export interface Bridge extends App {
  /** Every line logged so far, parsed. */
  logs: Record<string, unknown>[]
}

/** Settings without their prefix: `{ MQTT_URL: … }`. */
export type Settings = Record<string, string | number | boolean>

/** A bridge in this process on a free port; it closes with the test. Without MQTT_URL on its embedded broker. */
export async function startBridge(settings: Settings = {}): Promise<Bridge> {
  const logs: Record<string, unknown>[] = []
  const defaults: Settings = { HTTP_PORT: 0, EMBEDDED_PORT: 0, STREAM_LINGER_MS: 0, PUBLISH_TIMEOUT_MS: 5000 }
  const env = Object.entries({ ...defaults, ...settings }).map(
    ([name, value]) => [`CAUSEWAY_${name}`, String(value)] as const,
  )
  const readFile = (path: string) => readFileSync(path, 'utf8')
  const config = loadConfig(Object.fromEntries(env), readFile)
  const logger = pino({ level: 'debug' }, { write: (line: string) => void logs.push(JSON.parse(line)) })
  const app = await startApp({ config, readFile, logger, version: '0.0.0-test' })
  onTestFinished(() => app.close())
  // On a busy machine the first connection may take longer than a start waits for it.
  if (app.embeddedUrl !== undefined) await vi.waitUntil(app.isReachable, { timeout: 10_000 })
  return Object.assign(app, { logs })
}

/** The brokers most behaviour is tested on. `start` gives the settings of a bridge for it. */
export const BROKERS: { name: string; protocol: 5 | 4; start: () => Promise<Settings> }[] = [
  { name: 'embedded broker, MQTT 3.1.1', protocol: 4, start: async () => ({}) },
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

/** The broker's URL behind a bridge that was started with these settings. */
export function brokerUrl(bridge: Bridge, settings: Settings): string {
  return bridge.embeddedUrl ?? String(settings['MQTT_URL'])
}

/** The value of one series, 0 where there is none. */
export async function metric(bridge: Pick<Bridge, 'adminUrl'>, series: string): Promise<number> {
  const text = await (await fetch(`${bridge.adminUrl}/metrics`)).text()
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `))
  return line === undefined ? 0 : Number(line.slice(series.length + 1))
}
