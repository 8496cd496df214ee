import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { plainEnvironment } from '../support/plain-environment.ts'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

export interface BridgeProcess {
  /** Where it listens. */
  url: string
  /** What it logged, one JSON object a line. */
  log(): string
  /** Resolves when it is gone. */
  end(signal: NodeJS.Signals): Promise<void>
}

/**
 * The built bridge in a process of its own; resolves once it listens.
 * @param settings without their prefix `CAUSEWAY_`
 * @throws where it exits first, with what it said
 */
export async function startBridge(settings: Record<string, string | number>): Promise<BridgeProcess> {
  // Brokers that share the machine with tests are slow, and some checks publish 300 messages at once.
  const given = Object.entries({ HTTP_PORT: 0, PUBLISH_WAIT_MS: 10_000, ...settings }).map(([name, value]) => [
    `CAUSEWAY_${name}`,
    String(value),
  ])
  const child = spawn(process.execPath, [MAIN], {
    env: { ...plainEnvironment(), ...Object.fromEntries(given) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let log = ''
  const exited = once(child, 'close')
  const url = await new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        log += chunk
        const found = /metrics: +(http:\S+)\/metrics/.exec(log)
        if (found !== null) resolve(found[1]!)
      })
    }
    void exited.then(([code]) => reject(new Error(`the bridge exited with ${code}:\n${log}`)))
  })
  return {
    url,
    log: () => log,
    async end(signal) {
      child.kill(signal)
      await exited
    },
  }
}
