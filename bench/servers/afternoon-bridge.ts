import { join } from 'node:path'
import { freePort } from '../../test/support/free-port.ts'
import { ROOT, type Stage } from '../stage.ts'
import type { Bridge } from './bridge.ts'

/** Starts the bridge that one writes in an afternoon, as it would run: Node loads nothing but the program. */
export async function startAfternoonBridge(stage: Stage, mqttUrl: string, port?: number): Promise<Bridge> {
  const own = port ?? (await freePort())
  const file = join(ROOT, 'bench/servers/afternoon-bridge.mjs')
  const { pid } = await stage.program(stage.node, [...stage.nodeOptions, file, String(own), mqttUrl], own)
  return { port: own, pid: pid! }
}
