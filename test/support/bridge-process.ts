import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { onTestFinished } from 'vitest'
import type { Settings } from './bridge.ts'
import { distFile } from './dist.ts'

export interface BridgeProcess {
  /**
   * The URL of metrics and health, and of the API unless ADMIN_PORT is set. Resolves when the log says that it listens.
   */
  url: Promise<string>
  pid: number
  stdout(): string
  stderr(): string
  kill(signal: NodeJS.Signals): void
  /** Resolves when the process has ended, with its exit code or the signal that ended it. */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

/** The bridge as production runs it: `dist/main.js` in a process of its own, on free ports. It ends with the test. */
export function spawnBridge(settings: Settings = {}): BridgeProcess {
  const defaults: Settings = { HTTP_PORT: 0, EMBEDDED_PORT: 0 }
  const variables = Object.entries({ ...defaults, ...settings }).map(([name, value]) => [
    `CAUSEWAY_${name}`,
    String(value),
  ])
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('CAUSEWAY_'))
  const child = spawn(process.execPath, [distFile('main.js')], {
    env: Object.fromEntries([...inherited, ...variables]),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  const exited = once(child, 'close').then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
  }))
  const url = new Promise<string>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk
      const found = /metrics: +(http:\S+)\/metrics/.exec(stdout)
      if (found !== null) resolve(found[1]!)
    })
    void exited.then(({ code }) => reject(new Error(`the bridge exited with ${code}:\n${stdout}${stderr}`)))
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
