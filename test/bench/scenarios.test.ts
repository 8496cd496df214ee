import { describe, expect, test } from 'vitest'
import { measure } from '../../bench/measure.ts'
import { linesOf } from '../../bench/report.ts'
import type { Sample, Scenario } from '../../bench/scenario.ts'
import { scenarios } from '../../bench/scenarios.ts'
import { hasNchan } from '../../bench/servers/nchan.ts'
import { hasMosquitto } from '../support/broker.ts'

const MUST_BE_THERE = process.env['CAUSEWAY_TEST_REQUIRE_MOSQUITTO'] !== undefined
const RATES = ['highest', 'rate']
/** Of so little nothing may be missing, and nothing may be left. */
const NOTHING = ['lostAt', 'lost', 'incomplete', 'failed', 'filters', 'handles']

// How fast it was says nothing on a machine that runs tests; that each figure is there, and made of all that was sent, does.
describe.skipIf(!hasMosquitto).concurrent('the benchmark', () => {
  test.for(scenarios)('$name measures all its subjects', { timeout: 90_000 }, async (scenario, context) => {
    const samples = await measure(scenario, {
      node: process.execPath,
      effort: 'check',
      fanOut: 1,
      onStage: (stage) => context.onTestFinished(() => stage.end()),
      onSample: () => {},
    })
    for (const [metric, value] of Object.values(samples).flatMap(([sample]) => Object.entries(sample!))) {
      context.expect(value, metric).toSatisfy(Number.isFinite)
      if (RATES.includes(metric)) context.expect(value, metric).toBeGreaterThan(0)
      if (NOTHING.includes(metric)) context.expect(value, metric).toBe(0)
    }
    const lines = linesOf(scenario, samples)
    context
      .expect(lines.flatMap(({ value, ratio }) => [value.median, ...(ratio ? [ratio.median] : [])]))
      .toSatisfy((values: number[]) => values.every(Number.isFinite))
    if (hasNchan || MUST_BE_THERE) context.expect(lines).toHaveLength(scenario.rows.length)
  })
})

test('subjects are measured in turns, each round the other way round, and leave no process behind', async () => {
  const order: string[] = []
  const pids: number[] = []
  const subject = (title: string): Scenario['subjects'][string] => ({
    title,
    async measure(stage): Promise<Sample> {
      pids.push(stage.worker('servers/constant.ts').pid)
      return { before: order.length }
    },
  })
  const samples = await measure(
    { name: 'turns', title: '', rows: [], subjects: { a: subject('a'), b: subject('b') } },
    { node: process.execPath, effort: 'check', fanOut: 2, onSample: (title) => void order.push(title) },
  )
  expect(order).toEqual(['a', 'b', 'b', 'a'])
  expect(samples).toEqual({ a: [{ before: 0 }, { before: 3 }], b: [{ before: 1 }, { before: 2 }] })
  for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow('ESRCH')
})
