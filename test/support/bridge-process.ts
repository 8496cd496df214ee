import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import type { Settings } from './bridge.ts'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

export interface BridgeProcess {
  /** Where it listens, as its log says; resolves once it does. */
  url: Promise<string>
  pid: number
  stdout(): string
  stderr(): string
  kill(signal: NodeJS.Signals): void
  /** Resolves when it is gone, with its exit code and the signal it died of. */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

/** The bridge as production runs it, from `dist/`, on free ports; it ends with the test. */
export function spawnBridge(settings: Settings = {}): BridgeProcess {
  const defaults: Settings = { HTTP_PORT: 0, EMBEDDED_PORT: 0 }
  const variables = Object.entries({ ...defaults, ...settings }).map(([name, value]) => [
    `CAUSEWAY_${name}`,
    String(value),
  ])
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('CAUSEWAY_'))
  const child = spawn(process.execPath, [MAIN], {
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
  // Tests of a bridge that does not start never ask.
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
