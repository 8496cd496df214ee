import { loadavg } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { Random } from '../support/storm/random.ts'
import { type Bridge, startBridge } from './bridge.ts'
import { readBrokerLog } from './broker-log.ts'
import { type BrokerKind, startBroker } from './broker.ts'
import { FaultProxy } from './fault-proxy.ts'
import type { Fault, World } from './fault.ts'
import { judge, LATE_MS, owedTo, type Verdict } from './judge.ts'
import { isAnsweredWell, keyOf, Ledger, type Publication } from './ledger.ts'
import { LOOSE, publishOverHttp, publishOverMqtt, SURE, WITHOUT_RETRY_AFTER } from './load.ts'
import { Reader, type ReaderSpec } from './reader.ts'
import { Stage } from './stage.ts'
import { startWitness } from './witness.ts'

export interface RunOptions {
  seed: number
  broker: BrokerKind
  protocol: '5' | '3.1.1'
  /** Whether the logs of the broker and the bridges stay; the row's notes say where. */
  keepsLogs?: boolean
  /** Called once there is something to end. */
  onStage?: (stage: Stage) => void
}

export interface Row extends Verdict {
  fault: string
  what: string
  issue: string | undefined
  notes: string[]
  /** The rules that were broken, in words. */
  breaks: string[]
  /** How long it took in all, and the machine's load average of the last minute at its end. */
  seconds: number
  machineLoad: number
}

const WARM_UP_SECONDS = 2
/** A recovery is believed when all has worked for so long. */
const CALM_SECONDS = 3
const WATCH_SECONDS = 20
const WITHIN_SECONDS = 5
/** How long to wait, without anything coming, for what is still owed. */
const SETTLE_SECONDS = 3

/** Four readers of QoS 1 and 2, and one of QoS 0. */
const READERS: readonly ReaderSpec[] = [
  { name: 'sse', format: 'sse', filter: SURE },
  { name: 'ndjson', format: 'ndjson', filter: SURE },
  { name: 'auto', format: 'sse', filter: SURE, ack: 'auto' },
  { name: 'explicit', format: 'ndjson', filter: SURE, ack: 'explicit' },
  { name: 'loose', format: 'sse', filter: LOOSE },
]

/** Starts everything, lets the fault happen under load, watches until all works again, and judges. */
export async function runFault(fault: Fault, options: RunOptions): Promise<Row> {
  const stage = new Stage(options.keepsLogs)
  options.onStage?.(stage)
  const begunAt = performance.now()
  try {
    const row = await observe(fault, options, stage)
    if (options.keepsLogs) row.notes.push(`logs in ${stage.directory}`)
    return {
      fault: fault.name,
      what: fault.what,
      issue: fault.issue,
      ...row,
      seconds: Math.round((performance.now() - begunAt) / 1000),
      machineLoad: Math.round(loadavg()[0]! * 10) / 10,
    }
  } finally {
    await stage.end()
  }
}

async function observe(
  fault: Fault,
  { seed, broker: kind, protocol }: RunOptions,
  stage: Stage,
): Promise<Verdict & Pick<Row, 'notes' | 'breaks'>> {
  const random = new Random(seed ^ hash(fault.name))
  const { location, ...brokerOptions } = fault.broker ?? {}
  const broker = await startBroker(stage, { kind, ...brokerOptions, location: location?.(stage) })
  const proxy = await FaultProxy.start(stage, broker.port)
  const protocolVersion = kind === 'embedded' || protocol === '3.1.1' ? 4 : 5
  const witness = await startWitness(stage, broker.url, protocolVersion)
  const bridges: Bridge[] = []
  for (let index = 0; index < (fault.bridge?.count ?? 1); index += 1) {
    const { descriptors, heapMegabytes, preload, environment, hostsFile, host = '127.0.0.1' } = fault.bridge ?? {}
    bridges.push(
      await startBridge(stage, `bridge-${index}`, {
        settings: {
          MQTT_URL: `mqtt://${host}:${proxy.port}`,
          MQTT_PROTOCOL: protocol === '5' ? 'auto' : protocol,
          ...fault.settings,
        },
        descriptors,
        heapMegabytes,
        preload: preload?.(stage),
        environment: await environment?.(stage),
        hostsFile: hostsFile?.(stage),
      }),
    )
  }
  const urls = bridges.map(({ url }) => url)
  const ledger = new Ledger()
  const readers: Reader[] = []
  let endedAt: number | undefined
  const notes: string[] = []
  const breaks: string[] = []

  async function until(what: string, seconds: number, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + seconds * 1000
    while (!(await condition())) {
      if (performance.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`)
      await delay(10)
    }
  }
  const world: World = {
    stage,
    random,
    broker,
    proxy,
    bridges,
    witness,
    ledger,
    readers,
    seconds: (count) => delay(count * 1000),
    until,
    addReader(spec, bridge = readers.length) {
      const reader = new Reader(stage, spec, urls, bridge)
      readers.push(reader)
      return reader
    },
    async stopBroker(signal) {
      await proxy.refuse()
      await broker.program.end(signal)
    },
    async startBroker() {
      await broker.start()
      await until('the witness is subscribed again', 10, witness.isReady)
      await proxy.accept()
    },
    async restartBridge(index, signal) {
      await bridges[index]!.program.end(signal)
      await bridges[index]!.start()
    },
    isOver() {
      endedAt ??= performance.now()
    },
    note: (text) => void notes.push(text),
    breaks: (text) => void breaks.push(text),
  }

  for (const bridge of bridges) await until('the bridge is ready', 15, () => isReady(bridge))
  for (const spec of READERS) world.addReader(spec)
  await until('all readers are there', 15, () => readers.every(({ isOpen }) => isOpen))
  const usual = { rate: 60, qos: [0, 1, 2] as const }
  const { connections, ...http } = { ...usual, ...fault.http }
  const load = { ledger, random: random.fork() }
  const stopHttp = publishOverHttp(stage, { ...load, urls: () => urls, load: http, connections })
  const mqtt = { ...usual, ...fault.mqtt }
  const stopMqtt = await publishOverMqtt(stage, { ...load, url: broker.url, protocolVersion, load: mqtt })
  await delay(WARM_UP_SECONDS * 1000)

  try {
    await fault.strike(world)
  } catch (error) {
    breaks.push(`the fault could not be made: ${(error as Error).message}`)
  }
  /** Starts again what has ended, as a supervisor does. */
  async function revive(): Promise<void> {
    for (const [index, { program, start }] of bridges.entries()) {
      if (program.isRunning) continue
      breaks.push(`bridge ${index} has ended with ${program.ending}`)
      await start()
    }
  }
  endedAt ??= performance.now()
  const deadline = endedAt + (fault.watchSeconds ?? WATCH_SECONDS) * 1000
  do {
    await revive()
    await delay(100)
  } while (performance.now() < deadline && !isCalm(ledger, readers, endedAt))
  stopHttp()
  stopMqtt()
  const loadEndedAt = performance.now()
  await settled(ledger, readers, witness.arrived)

  const isSized = kind === 'mosquitto' && http.bytes === undefined
  const brokerLog = readBrokerLog(isSized ? broker.log() : '', isSized)
  const verdict = judge({
    ledger,
    arrived: witness.arrived,
    brokerLog,
    readers,
    brokerForgets: fault.brokerForgets === true,
    endedAt,
    loadEndedAt,
  })
  return { ...verdict, notes, breaks: [...brokenRules(verdict, fault, (loadEndedAt - endedAt) / 1000), ...breaks] }
}

function brokenRules(
  { neverArrived, missed, duplicatesQos2, recoverySeconds, saw }: Verdict,
  { withinSeconds = WITHIN_SECONDS }: Fault,
  watchedSeconds: number,
): string[] {
  const broken: string[] = []
  if (neverArrived > 0) broken.push(`${neverArrived} answered 200 never arrived`)
  if (missed > 0) broken.push(`${missed} missed without a gap`)
  if (duplicatesQos2 > 0) broken.push(`${duplicatesQos2} duplicates at QoS 2`)
  const silent = Object.keys(saw).filter((answer) => answer.endsWith(WITHOUT_RETRY_AFTER))
  if (silent.length > 0) broken.push(`callers saw ${silent.join(', ')}`)
  if (withinSeconds === null) return broken
  if (recoverySeconds === null) broken.push(`does not work again within ${Math.round(watchedSeconds)} s`)
  else if (recoverySeconds > withinSeconds) broken.push(`works again after ${recoverySeconds} s, not ${withinSeconds}`)
  return broken
}

/** Whether all has worked for the last seconds: every publish was answered in time, every reader is up to date. */
function isCalm({ publications }: Ledger, readers: readonly Reader[], since: number): boolean {
  const now = performance.now()
  const from = now - CALM_SECONDS * 1000
  if (from < since) return false
  const unanswered = publications.some(({ answer, begunAt }) => answer === undefined && begunAt <= now - LATE_MS)
  const isBad = (publication: Publication) =>
    publication.answeredAt! > from &&
    (!isAnsweredWell(publication) || publication.answeredAt! - publication.begunAt > LATE_MS)
  if (unanswered || publications.some(isBad)) return false
  const recent = publications.filter(({ begunAt }) => begunAt > from && begunAt < now - LATE_MS)
  return readers.every(({ spec: { filter }, arrivals }) =>
    recent
      .filter(({ topic }) => topic.startsWith(filter.slice(0, -1)))
      .every((publication) => arrivals.get(keyOf(publication))! - publication.begunAt <= LATE_MS),
  )
}

/** Waits while anything comes: answers first, then events. */
async function settled(
  ledger: Ledger,
  readers: readonly Reader[],
  arrived: ReadonlyMap<string, number>,
): Promise<void> {
  const left = () =>
    ledger.unanswered +
    readers
      .map((reader) =>
        owedTo(reader, ledger, arrived).filter((publication) => !reader.arrivals.has(keyOf(publication))),
      )
      .reduce((total, { length }) => total + length, 0)
  let fewest = Infinity
  let since = performance.now()
  // No publish waits longer for its answer than the bridge's own timeout of 10 s.
  const patience = () => (ledger.unanswered > 0 ? 15 : SETTLE_SECONDS) * 1000
  while (performance.now() - since < patience()) {
    const now = left()
    if (now === 0 && arrived.size > 0) {
      // The witness has the last messages a moment later than the publishers have their answers.
      await delay(200)
      if (left() === 0) return
    }
    if (now < fewest) {
      fewest = now
      since = performance.now()
    }
    await delay(100)
  }
}

async function isReady({ url }: Bridge): Promise<boolean> {
  try {
    const response = await fetch(`${url}/readyz`)
    await response.text()
    return response.status === 200
  } catch {
    return false
  }
}

/** FNV-1a, so that each fault draws from a sequence of its own. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (const character of text) value = Math.imul(value ^ character.codePointAt(0)!, 0x01000193)
  return value >>> 0
}
