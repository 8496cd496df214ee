import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { freePort } from '../support/free-port.ts'
import { plainEnvironment } from '../support/plain-environment.ts'
import { Program, type Stage } from './stage.ts'

const MAIN = resolve(import.meta.dirname, '../../dist/main.js')

/** Settings without their prefix: `{ MQTT_KEEPALIVE_S: 5 }`. */
export type Settings = Record<string, string | number>

export interface BridgeOptions {
  settings: Settings
  /** Most open files. Node itself needs more than 128 to load its modules. */
  descriptors?: number | undefined
  /** `--max-old-space-size`. */
  heapMegabytes?: number | undefined
  /** A module that is loaded before the bridge. */
  preload?: { path: string; environment: Record<string, string> } | undefined
  /** Variables that are not Causeway's own. */
  environment?: Record<string, string> | undefined
  /** A hosts file in place of /etc/hosts, in a mount namespace of its own; needs root. */
  hostsFile?: string | undefined
}

export interface Bridge {
  url: string
  program: Program
  log(): string
  /** On the same port as before. */
  start(): Promise<void>
}

/** The bridge as production runs it: dist/main.js, a process of its own. */
export async function startBridge(stage: Stage, name: string, options: BridgeOptions): Promise<Bridge> {
  const port = await freePort()
  const { settings, descriptors, heapMegabytes, preload, environment, hostsFile } = options
  let command = [process.execPath]
  if (heapMegabytes !== undefined) command.push(`--max-old-space-size=${heapMegabytes}`)
  if (preload !== undefined) command.push('--import', preload.path)
  command.push(MAIN)
  if (descriptors !== undefined) command = ['/bin/sh', '-c', `ulimit -n ${descriptors} && exec "$0" "$@"`, ...command]
  if (hostsFile !== undefined) {
    const script = `mount --bind "$0" /etc/hosts && exec "$@"`
    command = ['unshare', '--mount', '/bin/sh', '-c', script, hostsFile, ...command]
  }
  const ours = Object.entries({ HTTP_PORT: port, ...settings }).map(([key, value]) => [
    `CAUSEWAY_${key}`,
    String(value),
  ])
  const program = new Program(stage, name, command, {
    ...plainEnvironment(),
    ...preload?.environment,
    ...environment,
    ...Object.fromEntries(ours),
  })
  await program.start(port)
  return {
    url: `http://127.0.0.1:${port}`,
    program,
    log: () => readFileSync(program.logFile, 'utf8'),
    start: () => program.start(port),
  }
}
