import { appendFileSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { expect, onTestFinished } from 'vitest'
import { type Crew, createCrew } from './caller.ts'
import { ATTACK_MS, MIB } from './sizes.ts'
import { type Memory, metricsOf, type Target } from './target.ts'

/** What may be left behind by any attack: 20 % of what was held before. */
const LEFT = 0.2
const SETTLE_MS = 8000

export interface Polite {
  /** Waits until so many more rounds are over. */
  rounds(count: number): Promise<void>
  stop(): Promise<{ rounds: number; worst: Record<string, number>; failures: string[] }>
}

export interface PoliteOptions {
  /** What it does; all of it unless told otherwise. */
  parts?: ('publish' | 'stream' | 'retained' | 'livez')[]
  /** Its stream may say that messages may be missing, where the attack is on the broker connection that all share. */
  mayGap?: boolean
  headers?: Record<string, string>
  /** How late an answer may be. Two cores are shared with the attacker and the broker. */
  lateMs?: number
}

/** The client beside the attack; it ends with the test. */
export function startPolite(
  target: Pick<Target, 'url' | 'ca' | 'pid'>,
  { parts = ['publish', 'stream', 'retained', 'livez'], mayGap = false, headers = {}, lateMs = 2000 }: PoliteOptions,
): Polite {
  const worker = new Worker(new URL('polite-client.mjs', import.meta.url), {
    workerData: { url: target.url, ca: target.ca, pid: target.pid, headers, topic: 'polite', lateMs, parts, mayGap },
  })
  onTestFinished(() => void worker.terminate())
  let rounds = 0
  let summary: Awaited<ReturnType<Polite['stop']>> | undefined
  const waiting = new Set<() => void>()
  worker.on('message', (message: { rounds?: number; summary?: typeof summary }) => {
    rounds = message.rounds ?? rounds
    summary = message.summary ?? summary
    for (const wake of waiting) wake()
  })
  worker.on('error', (error) => {
    summary = { rounds, worst: {}, failures: [`the polite client itself failed: ${error.message}`] }
    for (const wake of waiting) wake()
  })
  async function until(isReached: () => boolean, ms: number): Promise<void> {
    const over = AbortSignal.timeout(ms)
    while (!isReached() && summary === undefined && !over.aborted) {
      await new Promise<void>((resolve) => {
        waiting.add(resolve)
        setTimeout(resolve, 200)
      })
      waiting.clear()
    }
  }
  return {
    rounds: (count) => {
      const from = rounds
      return until(() => rounds >= from + count, 12_000)
    },
    async stop() {
      if (summary === undefined) worker.postMessage('stop')
      await until(() => false, 12_000)
      return summary ?? { rounds, worst: {}, failures: ['the polite client does not end'] }
    },
  }
}

export interface Field extends Crew {
  polite: Polite
  /** Fails the test where more than so many bytes are held beyond what was held before the attack, garbage aside. */
  heldBelow(bytes: number, when?: string): Promise<void>
}

export interface AttackOptions extends PoliteOptions {
  /** Longest time for the attack, in milliseconds. */
  attackMs?: number
  /** Whether memory has to come back to what it was; default true. */
  comesBack?: boolean
}

/**
 * Runs an attack beside a polite client and fails the test with all that went wrong: the process died, the attack took
 * too long, an answer to the polite client was wrong or late, memory did not come back once the attacker had left.
 */
export async function underAttack(
  target: Target,
  attack: (field: Field) => Promise<unknown>,
  { attackMs = ATTACK_MS, comesBack = true, ...options }: AttackOptions = {},
): Promise<void> {
  const problems: string[] = []
  const timeout = new AbortController()
  onTestFinished(() => timeout.abort())
  const polite = startPolite(target, { headers: target.polite.headers, ...options })
  await polite.rounds(3)
  const crew = createCrew(target, timeout.signal)
  onTestFinished(() => crew.leave())
  // What the first request for these loads stays for all others, and is not left behind by the attack.
  for (const path of ['/openapi.json', '/docs/static/swagger-ui-bundle.js', '/retained?topic=nothing']) {
    await crew.ask('GET', path)
  }
  const before = await target.memory()
  const heldBefore = await heldBytes(target)
  const total = ({ heapUsed, external }: Memory) => heapUsed + external
  async function heldBelow(bytes: number, when = 'during the attack'): Promise<void> {
    const more = total(await target.memory()) - total(before)
    if (more >= bytes) problems.push(`${when} ${mib(more)} more are held, allowed are ${mib(bytes)}`)
  }
  let over = false
  const late = delay(attackMs, undefined, { signal: timeout.signal, ref: false }).then(
    () => over || problems.push(`the attack was not over after ${attackMs} ms`),
    () => {},
  )
  try {
    await Promise.race([attack({ ...crew, polite, heldBelow }), late])
  } catch (error) {
    problems.push(`the attack: ${(error as Error).message}`)
  }
  over = true
  timeout.abort()
  const peak = Number(/^VmHWM:\s+(\d+)/m.exec(statusOf(target.pid))?.[1] ?? 0) * 1024
  crew.leave()
  if (target.isAlive()) await polite.rounds(2)
  const { rounds, worst, failures } = await polite.stop()
  problems.push(...failures.map((failure) => `polite client: ${failure}`))
  let after: Memory | undefined
  try {
    after = await target.memory()
    const loopMaxMs = after.loopMaxMs
    const limit = total(before) * (1 + LEFT)
    const until = Date.now() + SETTLE_MS
    let stillHeld = await changedBytes(target, heldBefore)
    while (comesBack && Date.now() < until && (total(after) > limit || stillHeld.length > 0)) {
      await delay(500)
      after = await target.memory()
      stillHeld = await changedBytes(target, heldBefore)
    }
    after = { ...after, loopMaxMs: Math.max(loopMaxMs, after.loopMaxMs) }
    if (comesBack && total(after) > limit) {
      problems.push(`memory: ${mib(total(before))} before, ${mib(total(after))} after the attack`)
    }
    if (comesBack) problems.push(...stillHeld)
  } catch (error) {
    problems.push(`${(error as Error).message}: ${target.output().match(/.*(FATAL|Error: ).*/)?.[0] ?? ''}`)
  }
  if (!target.isAlive()) problems.unshift(`the process died: ${await target.exited}`)
  report({ problems, rounds, worst, before: total(before), after: after && total(after), peak, loop: after?.loopMaxMs })
  if (problems.length > 0) throw new Error(problems.join('\n'))
}

const mib = (bytes: number) => `${(bytes / MIB).toFixed(1)} MiB`

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8')
  } catch {
    return ''
  }
}

const HELD = /^causeway_held_bytes\{/

async function heldBytes(target: Target): Promise<Map<string, number>> {
  return new Map([...(await metricsOf(target))].filter(([name]) => HELD.test(name)))
}

async function changedBytes(target: Target, before: ReadonlyMap<string, number>): Promise<string[]> {
  const after = await heldBytes(target)
  return [...after]
    .filter(([name, bytes]) => bytes > (before.get(name) ?? 0))
    .map(([name, bytes]) => `${name} was ${before.get(name) ?? 0} and is ${bytes}`)
}

/** One line of numbers for each test, into the file that CAUSEWAY_HOSTILE_REPORT names. */
function report(numbers: Record<string, unknown>): void {
  const file = process.env['CAUSEWAY_HOSTILE_REPORT']
  if (file === undefined) return
  appendFileSync(file, `${JSON.stringify({ test: expect.getState().currentTestName, ...numbers })}\n`)
}
