import { mkdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BridgeProcess, startBridge } from './bridge-process.ts'
import {
  type Account,
  type BrokerKind,
  type BrokerProcess,
  type Installed,
  speaks,
  startBroker,
} from './broker-process.ts'
import type { Check } from './check.ts'
import { capabilities } from './checks/all.ts'
import { type Bridge, createGround, type Protocol, saysMixed, startLinkedBridge, untilReady } from './ground.ts'
import { Limit, type Outcome, outcomeOf, OutOfOrder, Wrong } from './outcome.ts'
import { named, type Run, tally } from './results.ts'

const LIMIT_MS = 45_000
const TRACES = process.env['CAUSEWAY_BROKERS_TRACES'] ?? join(tmpdir(), 'causeway-brokers')

interface RunOptions {
  documented: ReadonlyMap<string, number>
  /** Which checks to run. */
  isChosen(check: Check): boolean
  report(line: string): void
  /** Ends what runs, brokers included. */
  interrupted: AbortSignal
}

/** Every check on one broker, over each protocol that it speaks. */
export async function runBroker(kind: BrokerKind, installed: Installed, options: RunOptions): Promise<Run[]> {
  const runs: Run[] = []
  for (const protocol of ['5', '3.1.1'] as const) {
    const stage = await createStage(kind, installed, protocol)
    const run: Run = {
      name: kind.name,
      title: kind.title,
      version: installed.version,
      protocol,
      day: new Date().toISOString().slice(0, 10),
      outcomes: {},
    }
    runs.push(run)
    try {
      const answer = await speaks(stage.broker.port, protocol === '5' ? 5 : 4)
      if (answer === 'yes') await runChecks(run, stage, options)
      else run.unspoken = answer
    } finally {
      await stage.end()
    }
    options.report(`${named(run)}: ${run.unspoken ?? tally(run)}`)
  }
  return runs
}

async function runChecks(
  run: Run,
  stage: Stage,
  { documented, isChosen, report, interrupted }: RunOptions,
): Promise<void> {
  for (const { checks } of capabilities) {
    for (const check of checks) {
      if (!isChosen(check)) continue
      const begun = Date.now()
      const { outcome, packets } = await runCheck(check, stage, documented, interrupted)
      interrupted.throwIfAborted()
      run.outcomes[check.title] = outcome
      const seconds = ((Date.now() - begun) / 1000).toFixed(1)
      const why = outcome.outcome === 'held' ? '' : `: ${outcome.why}`
      const status = outcome.outcome === 'refused' ? ` ${outcome.status} ${outcome.code}` : ''
      report(`  ${outcome.outcome.padEnd(7)} ${seconds.padStart(5)} s  ${check.title}${status}${why}`)
      const isFailure = outcome.outcome === 'wrong' || (outcome.outcome === 'refused' && outcome.status > 501)
      if (isFailure) report(`          packets: ${writeTrace(run, check, packets)}`)
      await stage.mend(isFailure)
    }
  }
}

async function runCheck(
  check: Check,
  stage: Stage,
  documented: ReadonlyMap<string, number>,
  interrupted: AbortSignal,
): Promise<{ outcome: Outcome; packets: string[] }> {
  const ground = createGround(stage)
  const limitMs = check.limitMs ?? LIMIT_MS
  const over = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Wrong(`not over after ${limitMs / 1000} s`)), limitMs)
    interrupted.addEventListener('abort', () => reject(new Wrong('interrupted')), { signal: over.signal })
  })
  const running = check.run(ground)
  // One that is late ends when what it waits for is taken from it.
  for (const promise of [running, late]) promise.catch(() => {})
  let outcome: Outcome = { outcome: 'held' }
  try {
    await Promise.race([running, late])
  } catch (error) {
    const isSaid = error instanceof OutOfOrder && (await stage.bridge().then(saysMixed, () => false))
    const said = isSaid ? new Limit(`${error.message}; the broker mixes the order, which /readyz?verbose says`) : error
    outcome = outcomeOf(said, documented, check.dishonest)
  }
  clearTimeout(timer)
  over.abort()
  await ground.end()
  const own = ground.links.flatMap(({ of, link }) => ['', `== ${of}`, ...link.takePackets()])
  return { outcome, packets: ['== the shared bridge', ...(await stage.packets()), ...own] }
}

/** Writes down what passed between the bridges and the broker in a check. */
function writeTrace({ name, protocol }: Run, { title }: Check, packets: string[]): string {
  mkdirSync(TRACES, { recursive: true })
  const file = join(TRACES, `${name}-${protocol}-${title.replaceAll(/[^A-Za-z0-9]+/g, '-').slice(0, 60)}.txt`)
  writeFileSync(file, `${packets.join('\n')}\n`)
  return file
}

type Stage = Awaited<ReturnType<typeof createStage>>

/** The broker on which the checks run one after the other, and the bridge that they share. */
async function createStage(kind: BrokerKind, installed: Installed, protocol: Protocol) {
  let embedding: BridgeProcess | undefined
  let shared: Promise<Bridge> | undefined
  const broker: BrokerProcess = kind.embedded
    ? await startEmbedded(kind, protocol, (bridge) => {
        embedding = bridge
      })
    : await startBroker(kind, installed)

  async function leave(): Promise<void> {
    const bridge = await shared?.catch(() => undefined)
    shared = undefined
    await bridge?.leave()
  }
  return {
    protocol,
    broker,
    isEmbedded: kind.embedded === true,
    async bridge(): Promise<BridgeProcess> {
      if (embedding !== undefined) return embedding
      shared ??= startLinkedBridge(protocol, broker.port)
      const bridge = await shared
      await untilReady(bridge)
      return bridge
    },
    /** What passed between the shared bridge and the broker since this was last asked. */
    async packets(): Promise<string[]> {
      return (await shared?.catch(() => undefined))?.link.takePackets() ?? []
    },
    startWithAccount: installed.accounts ? (account: Account) => startBroker(kind, installed, account) : undefined,
    /** Starts again what a check was the end of; another bridge too where it failed. */
    async mend(failed: boolean) {
      if (failed) await leave()
      if ((await speaks(broker.port, protocol === '5' ? 5 : 4)) === 'yes') return
      await broker.kill()
      await broker.start()
    },
    async end() {
      await leave()
      await broker.end()
    },
  }
}

/** The broker of a bridge: both begin and end together. */
async function startEmbedded(
  { title }: BrokerKind,
  protocol: Protocol,
  started: (bridge: BridgeProcess) => void,
): Promise<BrokerProcess> {
  const settings = { MQTT_URL: 'embedded:', MQTT_PROTOCOL: protocol }
  let bridge = await startBridge({ ...settings, EMBEDDED_PORT: 0 })
  const port = Number(/mqtt:\/\/127\.0\.0\.1:(\d+)/.exec(bridge.log())?.[1])
  if (!(port > 0)) throw new Error(`${title} does not say its port:\n${bridge.log()}`)
  started(bridge)
  const kill = () => bridge.end('SIGKILL')
  return {
    port,
    url: `mqtt://127.0.0.1:${port}`,
    directory: '',
    kill,
    async start() {
      bridge = await startBridge({ ...settings, EMBEDDED_PORT: port })
      started(bridge)
    },
    end: kill,
    output: () => bridge.log(),
  }
}
