import type { Scenario } from '../scenario.ts'
import { throughput } from './firehose.ts'

/** The number of streams is the same in each measurement, so only the number of filters makes a difference. */
const STREAMS = 10

const subjectOf = (filters: number): Scenario['subjects'][string] => ({
  title: `Causeway, ${filters} filters`,
  measure: (stage, effort) =>
    throughput(stage, effort, {
      topics: Array.from({ length: effort === 'check' ? Math.min(filters, 200) : filters }, (_, index) => `f/${index}`),
      streams: STREAMS,
      settings: { STREAM_FILTERS_MAX: filters / STREAMS },
    }),
})

export const dispatch: Scenario = {
  name: 'dispatch',
  title: `Distinct filters, on ${STREAMS} streams`,
  subjects: { ten: subjectOf(10), thousand: subjectOf(1000), tenThousand: subjectOf(10_000) },
  rows: [
    {
      what: 'rate at 1,000 filters beside 10',
      unit: 'messages/s',
      subject: 'thousand',
      metric: 'rate',
      beside: { subject: 'ten', metric: 'rate' },
      target: { atLeast: 0.7 },
    },
    {
      what: 'rate at 10,000 filters beside 10',
      unit: 'messages/s',
      subject: 'tenThousand',
      metric: 'rate',
      beside: { subject: 'ten', metric: 'rate' },
      target: { atLeast: 0.7 },
    },
    { what: 'events missing at 10,000', unit: '', subject: 'tenThousand', metric: 'lost', target: { atMost: 0 } },
  ],
}
