import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { latencyBetween, rateBetween, readFigures } from '../../src/console/figures.ts'
import { createMetrics } from '../../src/metrics.ts'

const bucket = (le: string, count: number) => `causeway_publish_ack_seconds_bucket{le="${le}",qos="1"} ${count}\n`

test('counters are summed over their labels, and rates are between two readings', () => {
  const name = 'causeway_publish_messages_total'
  const before = readFigures(`# HELP ${name} x\n${name}{qos="0",outcome="sent"} 10\n${name}{qos="1"} 5\n`, 1000)
  const now = readFigures(`${name}{qos="0",outcome="sent"} 30\n${name}{qos="1"} 5\n`, 3000)
  expect(before.sums.get(name)).toBe(15)
  expect(rateBetween(before, now, name)).toBe(10)
  expect(rateBetween(now, readFigures(`${name} 8\n`, 5000), name), 'after a restart').toBe(4)
})

test('a latency is interpolated in the bucket that it is in', () => {
  const before = readFigures(bucket('0.001', 5) + bucket('0.002', 5) + bucket('+Inf', 5), 0)
  const now = readFigures(bucket('0.001', 5) + bucket('0.002', 15) + bucket('+Inf', 15), 1000)
  expect(latencyBetween(before, now, 0.5)).toBeCloseTo(1.5)
  expect(latencyBetween(now, now, 0.5)).toBeUndefined()
  const slow = readFigures(bucket('0.001', 5) + bucket('0.002', 15) + bucket('+Inf', 99), 2000)
  expect(latencyBetween(now, slow, 0.95), 'at least the last limit').toBe(2)
})

test('the names that the page asks for are metrics of the bridge', async () => {
  const { text, published } = createMetrics('0')
  const source = readFileSync(new URL('../../src/console/state-panel.ts', import.meta.url), 'utf8')
  const asked = [...source.matchAll(/'(causeway_\w+)'/g)].map(([, name]) => name!)
  expect(asked.length).toBeGreaterThan(5)
  for (const name of asked) expect(text.getSingleMetric(name), name).toBeDefined()
  published(1, 'acknowledged', 3, 0.0015)
  const figures = readFigures(await text.metrics(), 0)
  expect(figures.sums.get('causeway_publish_messages_total')).toBe(1)
  expect(latencyBetween(readFigures('', 0), figures, 0.5)).toBeGreaterThan(0)
})
