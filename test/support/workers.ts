import { readFileSync } from 'node:fs'
import { expect } from 'vitest'
import type { Settings } from './bridge.ts'
import { type BridgeProcess, spawnBridge } from './bridge-process.ts'
import { startMosquitto } from './broker.ts'

/** The process ids of the workers, in the order of their numbers as far as none was replaced. */
export function workersOf({ pid }: BridgeProcess): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(/\s+/).map(Number)
}

/** Two workers on one port unless `WORKERS` says how many, with a Mosquitto of their own. Resolves when all serve. */
export async function startWorkers(settings: Settings = {}): Promise<{ bridge: BridgeProcess; url: string }> {
  const broker = await startMosquitto()
  const bridge = spawnBridge({ MQTT_URL: broker.url, WORKERS: 2, ...settings })
  const url = await bridge.url
  await expect.poll(() => bridge.stdout(), { timeout: 30_000 }).toContain(`${settings['WORKERS'] ?? 2} workers serve`)
  return { bridge, url }
}
