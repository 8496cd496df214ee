import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import type { Settings } from '../../support/bridge.ts'
import { type Mosquitto, startMosquitto } from '../../support/broker.ts'
import { makeToken, type TestToken, tokenFile } from '../../support/token-file.ts'
import { plainEnvironment } from '../../support/plain-environment.ts'

const MAIN = fileURLToPath(new URL('../../../dist/main.js', import.meta.url))
const HOOK = new URL('memory-hook.mjs', import.meta.url).href
/** Enough to see what was said; an attack must not fill the test's memory by way of the log. */
const LOG_CHARACTERS = 2_000_000

export type Wire = 'HTTP/1.1' | 'HTTP/2'
export const WIRES: readonly Wire[] = ['HTTP/1.1', 'HTTP/2']

export interface Memory {
  heapUsed: number
  /** Buffers, which are outside the heap. */
  external: number
  /** Longest time the loop was blocked since it was last asked, in milliseconds. */
  loopMaxMs: number
}

export interface HostileProcess {
  pid: number
  /** Where it listens, as its log says; rejects where it exits before. */
  url: Promise<string>
  output(): string
  isAlive(): boolean
  /** What it holds after a collection of garbage; rejects where its loop does not turn for ten seconds. */
  memory(): Promise<Memory>
  kill(signal: NodeJS.Signals): void
  exited: Promise<number | string>
}

/** The bridge as production runs it, with a heap of 512 MB. It ends with the test. */
export function spawnHostile(settings: Settings): HostileProcess {
  const variables = Object.entries({ HTTP_PORT: 0, EMBEDDED_PORT: 0, ...settings })
  const child = spawn(process.execPath, ['--max-old-space-size=512', '--expose-gc', '--import', HOOK, MAIN], {
    env: {
      ...plainEnvironment(),
      ...Object.fromEntries(variables.map(([name, value]) => [`CAUSEWAY_${name}`, String(value)])),
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  child.setMaxListeners(100)
  let output = ''
  const exited = once(child, 'close').then(([code, signal]) => (signal ?? code) as number | string)
  const url = new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        if (output.length < LOG_CHARACTERS) output += chunk
        const found = /metrics: +(https?:[^\s"]+)\/metrics/.exec(output)
        if (found !== null) resolve(found[1]!)
      })
    }
    void exited.then((code) => reject(new Error(`the bridge exited with ${code}:\n${output.slice(-2000)}`)))
  })
  url.catch(() => {})
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
  })
  return {
    pid: child.pid!,
    url,
    output: () => output,
    isAlive: () => child.exitCode === null && child.signalCode === null,
    memory: () => memoryOf(child),
    kill: (signal) => void child.kill(signal),
    exited,
  }
}

async function memoryOf(child: ChildProcess): Promise<Memory> {
  if (!child.connected) throw new Error('the bridge is dead')
  const timeout = new AbortController()
  try {
    const answer = once(child, 'message', { signal: timeout.signal })
    child.send('memory')
    const late = delay(10_000, undefined, { signal: timeout.signal }).then(() => {
      throw new Error('the loop of the bridge has not turned for 10 s')
    })
    const dead = once(child, 'exit', { signal: timeout.signal }).then(() => {
      throw new Error('the bridge died')
    })
    const [memory] = (await Promise.race([answer, late, dead])) as [Memory]
    return memory
  } finally {
    timeout.abort()
  }
}

export interface Target extends Omit<HostileProcess, 'url'> {
  url: string
  port: number
  wire: Wire
  /** What to trust, over HTTP/2. */
  ca: string | undefined
  broker: Mosquitto
  /** May do everything, without a limit of requests a second. */
  attacker: TestToken
  polite: TestToken
  /** May do everything; stands for a caller who is neither. */
  other: TestToken
  tokens: ReturnType<typeof tokenFile>
  /** Headers of the attacker: none where there is no authentication. */
  headers: Record<string, string>
}

export interface TargetOptions {
  wire?: Wire
  mqtt?: '5' | '3.1.1'
  settings?: Settings
  /** Lines of Mosquitto's configuration. */
  brokerConfig?: string[]
  /** In place of the URL of the Mosquitto of its own; gets that URL. */
  brokerUrl?: (own: string) => string | Promise<string>
  /** Of the attacker's token. */
  streams?: number
  /** Without, nobody has to say who they are. */
  auth?: 'token' | 'none'
}

/** A bridge on a Mosquitto of its own, over plain HTTP/1.1 or over TLS for HTTP/2. */
export async function startTarget({
  wire = 'HTTP/1.1',
  mqtt = '5',
  settings = {},
  brokerConfig = [],
  brokerUrl = (own) => own,
  streams,
  auth = 'token',
}: TargetOptions = {}): Promise<Target> {
  // Without these limits Mosquitto drops messages in silence, and nothing would reach the bridge.
  const config = ['max_queued_messages 0', 'max_queued_bytes 0', 'sys_interval 1', ...brokerConfig]
  const broker = await startMosquitto({ config })
  const attacker = makeToken('attacker', ['#'], ['#', '$SYS/#'], { rate: 0, ...(streams !== undefined && { streams }) })
  const polite = makeToken('polite', ['polite/#'])
  const other = makeToken('other', ['#'])
  const tokens = tokenFile([attacker, polite, other])
  const secure = wire === 'HTTP/2' ? secureFiles() : undefined
  const bridge = spawnHostile({
    MQTT_URL: await brokerUrl(broker.url),
    MQTT_PROTOCOL: mqtt,
    // Long enough for a reader to come back, and so short that what it left is gone when memory is measured.
    STREAM_LINGER_MS: 1000,
    ...(auth === 'token' && tokens.settings),
    ...(secure && { HTTP_CERT_FILE: secure.cert, HTTP_KEY_FILE: secure.key }),
    ...settings,
  })
  const url = await bridge.url
  return {
    ...bridge,
    url,
    port: Number(new URL(url).port),
    wire,
    ca: secure?.ca,
    broker,
    attacker,
    polite,
    other,
    tokens,
    headers: auth === 'token' ? attacker.headers : {},
  }
}

interface SecureFiles {
  ca: string
  cert: string
  key: string
}

/** A certificate with an RSA key, for 127.0.0.1, gone after the test. RSA, as with it TLS 1.2 can do without forward secrecy. */
export function secureFiles(): SecureFiles {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-hostile-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const cert = join(directory, 'cert.pem')
  const key = join(directory, 'key.pem')
  const words = 'req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext'.split(' ')
  const names = 'subjectAltName=DNS:localhost,IP:127.0.0.1'
  execFileSync('openssl', [...words, names, '-keyout', key, '-out', cert], { stdio: 'pipe' })
  return { ca: readFileSync(cert, 'utf8'), cert, key }
}

/** Samples of /metrics by name and labels; asked by the polite client's token. */
export async function metricsOf(target: Target): Promise<Map<string, number>> {
  const { plainGet } = await import('./caller.ts')
  const text = await plainGet(target, '/metrics', target.polite.headers)
  return new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => {
        const space = line.lastIndexOf(' ')
        return [line.slice(0, space), Number(line.slice(space + 1))] as const
      }),
  )
}
