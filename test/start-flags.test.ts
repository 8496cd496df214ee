import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const MODULE = join(import.meta.dirname, '../src/start-flags.ts')
/** Prints whether TurboFan has compiled a hot function: during the start, and at last within so many milliseconds. */
const SCRIPT = `
  import { setTimeout as delay } from 'node:timers/promises'
  import { beginStart } from ${JSON.stringify(MODULE)}
  const TURBOFANNED = 1 << 6
  const run = async (hot, limitMs) => {
    for (const endMs = performance.now() + limitMs; performance.now() < endMs; await delay(1)) {
      for (let index = 0; index < 100_000; index += 1) hot(index)
      if ((%GetOptimizationStatus(hot) & TURBOFANNED) !== 0) return true
    }
    return false
  }
  const started = beginStart(process.execArgv)
  const during = await run((x) => x * x + 1, 300)
  started()
  const behind = await run((x) => x * x + 2, during === true ? 0 : Number(process.env.LIMIT_MS))
  console.log(JSON.stringify({ during, behind }))
`

/** @param limitMs how long to wait for it */
function optimises(options: readonly string[], limitMs: number) {
  const args = [...options, '--allow-natives-syntax', '--import', 'tsx', '--input-type=module', '--eval', SCRIPT]
  const env = { ...process.env, LIMIT_MS: String(limitMs) }
  return JSON.parse(execFileSync(process.execPath, args, { env, encoding: 'utf8' }))
}

test('V8 optimises nothing during the start, and everything behind it', () => {
  expect(optimises([], 20_000)).toEqual({ during: false, behind: true })
})

test('a Node that was started without the optimising compiler stays so', () => {
  expect(optimises(['--no-opt'], 300)).toEqual({ during: false, behind: false })
})
