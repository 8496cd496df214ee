import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { onTestFinished } from 'vitest'
import type { Settings } from './bridge.ts'
import { distFile } from './dist.ts'
import { plainEnvironment } from './plain-environment.ts'

export interface BridgeProcess {
  /**
   * The URL of metrics and health, and of the API unless ADMIN_PORT is set. Resolves when the bridge listens and is
   * connected to its broker.
   */
  url: Promise<string>
  pid: number
  stdout(): string
  stderr(): string
  kill(signal: NodeJS.Signals): void
  /** Resolves when the process has ended, with its exit code or the signal that ended it. */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

/** How long a process may take to start and to reach its broker on a busy machine. */
const BROKER_TIMEOUT_MS = 25_000

/**
 * Starts the bridge as production runs it, `dist/main.js` in a process of its own on free ports. It ends with the test.
 * @param options `waitForBroker: false` for a test whose broker is missing or refuses the bridge: `url` then resolves
 *   when the bridge listens. `environment`: variables that are not Causeway's own
 */
export function spawnBridge(
  settings: Settings = {},
  { waitForBroker = true, environment = {} }: { waitForBroker?: boolean; environment?: Record<string, string> } = {},
): BridgeProcess {
  const defaults: Settings = { HTTP_PORT: 0, EMBEDDED_PORT: 0, PUBLISH_WAIT_MS: 10_000 }
  const variables = Object.entries({ ...defaults, ...settings }).map(([name, value]) => [
    `CAUSEWAY_${name}`,
    String(value),
  ])
  const child = spawn(process.execPath, [distFile('main.js')], {
    env: { ...plainEnvironment(), ...environment, ...Object.fromEntries(variables) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  const exited = once(child, 'close').then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
  }))
  const url = new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => {
      const hint = 'the bridge did not reach its broker; without one, pass { waitForBroker: false }'
      reject(new Error(`${hint}:\n${stdout}${stderr}`))
    }, BROKER_TIMEOUT_MS)
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk
      const found = /metrics: +(http:\S+)\/metrics/.exec(stdout)
      if (found !== null && (!waitForBroker || isConnected(stdout))) resolve(found[1]!)
    })
    void exited.then(({ code }) => {
      clearTimeout(timer)
      reject(new Error(`the bridge exited with ${code}:\n${stdout}${stderr}`))
    })
  })
  // A test of a bridge that does not start does not look at `url`; its rejection must not fail the run.
  url.catch(() => {})
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    stderr += chunk
  })
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
  })
  return {
    url,
    pid: child.pid!,
    stdout: () => stdout,
    stderr: () => stderr,
    kill: (signal) => void child.kill(signal),
    exited,
  }
}

/**
 * Whether a bridge that listens is connected to its broker, by its log: it tries once before it listens, warns when
 * that fails, and says when all of its connections are there. The log needs no credentials, unlike `GET /readyz`.
 */
function isConnected(log: string): boolean {
  return log.lastIndexOf('the broker is back') >= log.lastIndexOf('the broker cannot be reached')
}
