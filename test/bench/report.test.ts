import { expect, test } from 'vitest'
import { linesOf, sideBySide, table } from '../../bench/report.ts'
import type { Scenario } from '../../bench/scenario.ts'
import { median, percentile } from '../../bench/statistics.ts'

const measure = async () => ({})
const scenario: Scenario = {
  name: 'pair',
  title: 'A pair',
  subjects: { causeway: { title: 'Causeway', measure }, other: { title: 'other', measure } },
  rows: [
    {
      what: 'rate',
      unit: 'messages/s',
      subject: 'causeway',
      metric: 'rate',
      beside: { subject: 'other', metric: 'rate' },
      target: { atLeast: 0.8 },
    },
    { what: 'lost', unit: '', subject: 'causeway', metric: 'lost', target: { atMost: 0 } },
  ],
}
const samples = {
  causeway: [
    { rate: 90, lost: 0 },
    { rate: 40, lost: 2 },
    { rate: 80, lost: 1 },
  ],
  other: [{ rate: 100 }, { rate: 40 }, { rate: 200 }],
}

test('the ratio is the median of the rounds’ ratios, and the target applies to it', () => {
  const [rate, lost] = linesOf(scenario, samples)
  expect(rate).toMatchObject({
    value: { median: 80, min: 40, max: 90 },
    beside: { title: 'other', median: 100 },
    ratio: { median: 0.9, min: 0.4, max: 1 },
    met: true,
  })
  expect(lost).toMatchObject({ value: { median: 1, min: 0, max: 2 }, met: false })
})

test('lines whose baseline is not installed are left out', () => {
  expect(linesOf(scenario, { causeway: samples.causeway }).map(({ what }) => what)).toEqual(['lost'])
})

/** A result without its lines. */
const measured = {
  scenario: 'pair',
  title: 'A pair',
  node: 'v20.0.0',
  effort: 'full',
  rounds: 3,
  at: '',
  samples,
} as const

test('the table says by how much each target was met or missed', () => {
  const text = table([{ ...measured, lines: linesOf(scenario, samples) }])
  expect(text.split('\n').slice(2, 4)).toEqual([
    '| A pair | v20.0.0 | rate, messages/s | 80 (40–90) | other: 100 (40–200) | 0.9 (0.4–1) | ≥ 0.8 × | met |',
    '|  |  | lost | 1 (0–2) | – | – | ≤ 0 | **not met** |',
  ])
})

test('subjects side by side have a dash for what they do not have, and say when they were not measured', () => {
  const three: Scenario = {
    ...scenario,
    subjects: { ...scenario.subjects, third: { title: 'third', measure } },
    sideBySide: [
      { what: 'rate', unit: 'messages/s', metric: 'rate' },
      { what: 'lost', unit: '', metric: 'lost' },
    ],
  }
  const text = table([{ ...measured, lines: [], sideBySide: sideBySide(three, samples) }])
  expect(text.split('\n').slice(2)).toEqual([
    '',
    '### A pair',
    '',
    '| v20.0.0, 3 rounds | Causeway | other | third (not measured) |',
    '| --- | --- | --- | --- |',
    '| rate, messages/s | 80 (40–90) | 100 (40–200) | – |',
    '| lost | 1 (0–2) | – | – |',
    '',
  ])
})

test('medians and percentiles do not depend on order', () => {
  expect([median([3, 1, 2]), median([4, 1, 3, 2])]).toEqual([2, 2.5])
  const values = Array.from({ length: 100 }, (_, index) => (index * 37) % 100)
  expect([percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1)]).toEqual([50, 99, 99])
  expect(percentile([], 0.5)).toBeNaN()
})
