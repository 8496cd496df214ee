import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const MODULE = join(import.meta.dirname, '../src/start-flags.ts')
/** The bit of a function's status that says that TurboFan has compiled it. */
const TURBOFANNED = Number.parseInt(process.versions.node) < 26 ? 6 : 5
/**
 * Prints whether TurboFan has compiled a function that is hot during the start: then, and at last within so many
 * milliseconds; and one that is hot behind it.
 */
const SCRIPT = `
  import { setTimeout as delay } from 'node:timers/promises'
  import { beginStart } from ${JSON.stringify(MODULE)}
  const TURBOFANNED = 1 << ${TURBOFANNED}
  const callOften = (hot) => {
    for (let index = 0; index < 100_000; index += 1) hot(index)
  }
  // Compiled, it would have \`hot\` in it, and call it no more.
  %NeverOptimizeFunction(callOften)
  const run = async (hot, limitMs) => {
    for (const endMs = performance.now() + limitMs; performance.now() < endMs; await delay(1)) {
      callOften(hot)
      if ((%GetOptimizationStatus(hot) & TURBOFANNED) !== 0) return true
    }
    return false
  }
  const started = beginStart(process.execArgv, process.versions.node)
  const early = (x) => x * x + 1
  const during = await run(early, 300)
  started()
  const limitMs = Number(process.env.LIMIT_MS)
  console.log(JSON.stringify({ during, atLast: await run(early, limitMs), behind: await run((x) => x * x + 2, limitMs) }))
`

/** @param limitMs how long to wait for it */
function optimises(options: readonly string[], limitMs: number) {
  const args = [...options, '--allow-natives-syntax', '--import', 'tsx', '--input-type=module', '--eval', SCRIPT]
  const env = { ...process.env, LIMIT_MS: String(limitMs) }
  return JSON.parse(execFileSync(process.execPath, args, { env, encoding: 'utf8' }))
}

test('V8 optimises nothing during the start, and everything behind it', () => {
  expect(optimises([], 20_000)).toEqual({ during: false, atLast: true, behind: true })
})

test('a Node that was started without the optimising compiler stays so', () => {
  expect(optimises(['--no-opt'], 300)).toEqual({ during: false, atLast: false, behind: false })
})

test('the old generation may double before V8 marks it again, once the start is over', () => {
  const script = `
    import { beginStart } from ${JSON.stringify(MODULE)}
    globalThis.live = Array.from({ length: 1_000_000 }, (_, index) => ({ index }))
    beginStart(process.execArgv, process.versions.node)()
    gc()
    gc()
  `
  const args = ['--expose-gc', '--trace-incremental-marking', '--trace-gc-verbose', '--import', 'tsx']
  const output = execFileSync(process.execPath, [...args, '--input-type=module', '--eval', script], {
    encoding: 'utf8',
  })
  const [, size, limit] = /^.*HeapController\] Limit: old size: (\d+) KB, new limit: (\d+) KB/m
    .exec(output.split('\n').toReversed().join('\n'))!
    .map(Number)
  // What is allocated next may all survive, which V8 adds.
  expect(limit! - 2 * size!).toBeGreaterThanOrEqual(0)
  expect(limit! - 2 * size!).toBeLessThan(40_000)
  expect(size).toBeGreaterThan(40_000)
})
