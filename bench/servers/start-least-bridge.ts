import type { Stage } from '../stage.ts'
import type { Bridge } from './bridge.ts'

/** Starts the least bridge for a broker at this port of 127.0.0.1. Resolves when it listens. */
export async function startLeastBridge(stage: Stage, mqttPort: number): Promise<Bridge> {
  const server = stage.baseline('servers/least-bridge.ts')
  return { port: await server.call('listen', { mqttPort }), pid: server.pid }
}
