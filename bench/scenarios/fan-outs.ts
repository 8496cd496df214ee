import type { Row } from '../scenario.ts'
import { fanOut } from './fan-out.ts'

const lost = (at: string): Row => ({
  what: `readers that missed an event at ${at} events/s`,
  unit: '',
  subject: 'causeway',
  metric: 'lostAt',
  target: { atMost: 0 },
})
const highest = (beside: string, atLeast: number): Row => ({
  what: 'highest sustained',
  unit: 'events/s',
  subject: 'causeway',
  metric: 'highest',
  beside: { subject: beside, metric: 'highest' },
  target: { atLeast },
})

export const fanOut1000 = fanOut({
  name: 'fan-out',
  title: '1,000 readers of one topic',
  readers: 1000,
  topics: 1,
  at: 1_000_000,
  p99Max: 250,
  rows: [
    highest('nchan', 10),
    highest('obvious', 5),
    lost('1,000,000'),
    { what: 'p99 at 1,000,000 events/s', unit: 'ms', subject: 'causeway', metric: 'p99At', target: { atMost: 20 } },
  ],
})

export const fanOut10000 = fanOut({
  name: 'fan-out-10000',
  title: '10,000 readers of one topic',
  readers: 10_000,
  topics: 1,
  at: 200_000,
  // Writing one message to all readers takes a large part of that already.
  p99Max: 1000,
  rows: [
    highest('obvious', 5),
    {
      what: 'highest sustained',
      unit: 'events/s',
      subject: 'causeway',
      metric: 'highest',
      beside: { subject: 'nchan', metric: 'highest' },
    },
    lost('200,000'),
    { what: 'p99 at 200,000 events/s', unit: 'ms', subject: 'causeway', metric: 'p99At' },
  ],
})

export const fanOut100Filters = fanOut({
  name: 'fan-out-100-filters',
  title: '1,000 readers over 100 filters',
  readers: 1000,
  topics: 100,
  at: 200_000,
  p99Max: 250,
  rows: [
    highest('obvious', 10),
    {
      what: 'highest sustained',
      unit: 'events/s',
      subject: 'causeway',
      metric: 'highest',
      beside: { subject: 'nchan', metric: 'highest' },
    },
    lost('200,000'),
    { what: 'p99 at 200,000 events/s', unit: 'ms', subject: 'causeway', metric: 'p99At', target: { atMost: 20 } },
  ],
})
