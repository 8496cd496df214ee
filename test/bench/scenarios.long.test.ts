import { beforeAll, describe, test } from 'vitest'
import { measure } from '../../bench/measure.ts'
import { linesOf } from '../../bench/report.ts'
import { scenarios } from '../../bench/scenarios.ts'
import { hasNchan } from '../../bench/servers/nchan.ts'
import { hasMosquitto } from '../support/broker.ts'
import { distFile } from '../support/dist.ts'

const MUST_BE_THERE = process.env['CAUSEWAY_TEST_REQUIRE_MOSQUITTO'] !== undefined
const RATES = ['highest', 'rate']
/** With so few messages none may be lost, and nothing may be left over. */
const ZEROS = ['lostAt', 'lost', 'incomplete', 'failed', 'filters', 'handles']

// On a machine that runs tests a speed means nothing. So only this is tested: every figure is there, and no message was
// lost.
beforeAll(() => void distFile('main.js'))

describe.skipIf(!hasMosquitto).concurrent('the benchmark', () => {
  test.for(scenarios)('$name measures all its subjects', { timeout: 90_000 }, async (scenario, context) => {
    const samples = await measure(scenario, {
      node: process.execPath,
      effort: 'check',
      rounds: 1,
      onStage: (stage) => context.onTestFinished(() => stage.end()),
      onSample: () => {},
    })
    for (const [metric, value] of Object.values(samples).flatMap(([sample]) => Object.entries(sample!))) {
      context.expect(value, metric).toSatisfy(Number.isFinite)
      if (RATES.includes(metric)) context.expect(value, metric).toBeGreaterThan(0)
      if (ZEROS.includes(metric)) context.expect(value, metric).toBe(0)
    }
    const lines = linesOf(scenario, samples)
    context
      .expect(lines.flatMap(({ value, ratio }) => [value.median, ...(ratio ? [ratio.median] : [])]))
      .toSatisfy((values: number[]) => values.every(Number.isFinite))
    for (const { what, value, ratio, target } of lines) {
      if (ratio === undefined && target && 'atMost' in target && target.atMost === 0) {
        context.expect(value.median, what).toBe(0)
      }
    }
    if (hasNchan || MUST_BE_THERE) context.expect(lines).toHaveLength(scenario.rows.length)
  })
})
