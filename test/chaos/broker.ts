import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { freePort } from '../support/free-port.ts'
import { plainEnvironment } from '../support/plain-environment.ts'
import { Program, type Stage } from './stage.ts'

export type BrokerKind = 'mosquitto' | 'embedded'

const MAIN = resolve(import.meta.dirname, '../../dist/main.js')

export interface BrokerOptions {
  kind: BrokerKind
  /** Further lines of Mosquitto's configuration. */
  config?: readonly string[]
  /** Whether a SIGTERM saves its state; Mosquitto only. */
  persistence?: boolean
  /** Where Mosquitto saves its state; in the stage's own directory otherwise. */
  location?: string | undefined
}

export interface Broker {
  kind: BrokerKind
  port: number
  url: string
  program: Program
  /** All it has logged. Mosquitto logs every packet, so that what it lost can be shown. */
  log(): string
  start(): Promise<void>
}

/** A broker process of its own. The embedded broker runs inside another bridge, which nobody calls. */
export async function startBroker(stage: Stage, options: BrokerOptions): Promise<Broker> {
  const port = await freePort()
  const program = options.kind === 'mosquitto' ? mosquitto(stage, port, options) : await embeddedBroker(stage, port)
  await program.start(port)
  return {
    kind: options.kind,
    port,
    url: `mqtt://127.0.0.1:${port}`,
    program,
    log: () => readFileSync(program.logFile, 'utf8'),
    start: () => program.start(port),
  }
}

function mosquitto(
  stage: Stage,
  port: number,
  { config = [], persistence = false, location = stage.directory }: BrokerOptions,
): Program {
  const file = join(stage.directory, 'mosquitto.conf')
  // Mosquitto as it comes drops what exceeds 1,000 messages for a client. That is a fault of its own, not part of all.
  const limit = config.some((line) => line.startsWith('max_queued_messages')) ? [] : ['max_queued_messages 0']
  const lines = [`listener ${port} 127.0.0.1`, 'allow_anonymous true', 'log_dest stderr', 'log_type all', ...limit]
  lines.push(...config)
  // As root Mosquitto changes to a user of its own, who could not read this directory.
  if (process.getuid?.() === 0) lines.push('user root')
  if (persistence) lines.push('persistence true', `persistence_location ${location}/`)
  writeFileSync(file, `${lines.join('\n')}\n`)
  rmSync(join(location, 'mosquitto.db'), { force: true })
  return new Program(stage, 'broker', ['/usr/sbin/mosquitto', '-c', file])
}

async function embeddedBroker(stage: Stage, port: number): Promise<Program> {
  return new Program(stage, 'broker', [process.execPath, MAIN], {
    ...plainEnvironment(),
    CAUSEWAY_EMBEDDED_PORT: String(port),
    CAUSEWAY_HTTP_PORT: String(await freePort()),
  })
}
