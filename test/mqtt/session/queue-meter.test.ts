import { expect, test } from 'vitest'
import { QueueMeter } from '../../../src/mqtt/session/queue-meter.ts'

/** A broker that keeps so many messages at most, and drops what is more. The reader takes them one by one. */
function setUp(max: number) {
  const queue: (Buffer | undefined)[] = []
  let dropped = 0
  let gaps = 0
  const put = (item: Buffer | undefined): true => {
    if (queue.length < max) queue.push(item)
    else dropped += 1
    return true
  }
  const meter = new QueueMeter({ max, send: put, overflowed: () => (gaps += 1) })
  return {
    meter,
    publish(count: number) {
      for (let number = 0; number < count; number += 1) put(undefined)
    },
    take(count = Infinity, acknowledges = false) {
      for (let number = 0; number < count && queue.length > 0; number += 1) {
        const marker = queue.shift()
        meter.received(true)
        if (marker !== undefined) meter.arrived(marker)
        if (acknowledges) meter.acknowledged()
      }
    },
    get gaps() {
      return gaps
    },
    get dropped() {
      return dropped
    },
  }
}

test.each([
  [900, 0],
  [999, 1],
  [5000, 1],
])('%i messages that waited in a queue of 1000 when the reader came are %i gaps', (count, gaps) => {
  const broker = setUp(1000)
  broker.publish(count)
  broker.meter.start(true, false)
  broker.take()
  broker.publish(100)
  broker.take()
  expect(broker.gaps).toBe(gaps)
})

test('a queue that is never nearly full is no gap, however many messages pass it', () => {
  const broker = setUp(1000)
  broker.meter.start(true, false)
  broker.publish(800)
  for (let round = 0; round < 5000; round += 1) {
    broker.take(7)
    broker.publish(6)
  }
  expect(broker.dropped).toBe(0)
  expect(broker.gaps).toBe(0)
})

test.each([100, 1000, 10_000])('a queue of %i that overflows at any moment is a gap', (max) => {
  for (let before = 0; before < 3 * max; before += Math.ceil(max / 13)) {
    const broker = setUp(max)
    broker.meter.start(true, false)
    for (let number = 0; number < before; number += 1) {
      broker.publish(1)
      broker.take(1)
    }
    broker.publish(max / 2)
    broker.take(max / 4)
    broker.publish(2 * max)
    expect(broker.dropped).toBeGreaterThan(0)
    broker.take()
    expect(broker.gaps).toBeGreaterThan(0)
  }
})

test('markers of another meter, and of an earlier connection, end nothing', () => {
  const broker = setUp(1000)
  broker.meter.start(true, false)
  broker.publish(100)
  broker.take(50)
  broker.publish(1000)
  // The marker that was sent after 40 messages is among them.
  broker.meter.start(true, false)
  broker.take(30)
  broker.meter.arrived(Buffer.from('other 99'))
  broker.take()
  expect(broker.gaps).toBe(1)
})

test('a full queue that comes over two connections is a gap, and many connections with little each are none', () => {
  const broker = setUp(1000)
  broker.publish(1100)
  broker.meter.start(true, false)
  broker.take(600, true)
  broker.meter.stop()
  expect(broker.gaps).toBe(0)
  broker.meter.start(true, false)
  broker.take(Infinity, true)
  expect(broker.gaps).toBe(1)
  for (let connection = 0; connection < 100; connection += 1) {
    broker.meter.stop()
    broker.publish(30)
    broker.meter.start(true, false)
    broker.take(30, true)
    // All but the last marker come.
    if (connection % 5 === 4) broker.take(Infinity, true)
  }
  expect(broker.gaps).toBe(1)
})

test('a queue that was told of is not told of again because the connection is lost', () => {
  const broker = setUp(1000)
  broker.publish(1100)
  broker.meter.start(true, false)
  broker.take(980, true)
  expect(broker.gaps).toBe(1)
  broker.meter.stop()
  broker.meter.start(true, false)
  broker.take(Infinity, true)
  expect(broker.gaps).toBe(1)
})

test('a queue that stays full is told of again and again, and no more once it is not', () => {
  const broker = setUp(1000)
  broker.meter.start(true, false)
  for (let round = 0; round < 5000; round += 1) {
    broker.publish(3)
    broker.take(1)
  }
  expect(broker.gaps).toBeGreaterThan(3)
  broker.take()
  const before = broker.gaps
  for (let round = 0; round < 5000; round += 1) {
    broker.publish(1)
    broker.take(1)
  }
  expect(broker.gaps).toBe(before)
})

test('without markers what comes before the first quiet moment counts, and nothing after it', () => {
  const broker = setUp(1000)
  broker.meter.start(false, false)
  broker.publish(900)
  broker.take()
  broker.meter.quiet()
  broker.publish(900)
  broker.take()
  expect(broker.gaps).toBe(0)
  broker.meter.start(false, false)
  broker.publish(1000)
  broker.take()
  expect(broker.gaps).toBe(1)
})

test('messages that come again make no markers, but count', () => {
  let sent = 0
  let gaps = 0
  const meter = new QueueMeter({ max: 1000, send: () => (sent += 1) > 0, overflowed: () => (gaps += 1) })
  for (const [count, expected] of [
    [900, 0],
    [960, 1],
  ] as const) {
    meter.start(true, false)
    for (let number = 0; number < count; number += 1) meter.received(false)
    expect([sent, gaps]).toEqual([0, expected])
  }
})

test('what is unacknowledged takes room where the broker counts it', () => {
  for (const [countsUnacknowledged, expected] of [
    [false, 0],
    [true, 1],
  ] as const) {
    const broker = setUp(10_000)
    const meter = broker.meter
    meter.start(true, countsUnacknowledged)
    // The reader acknowledges half of what it gets, so after 20,000 messages the broker has 10,000 unacknowledged ones.
    for (let number = 0; number < 20_000; number += 1) {
      broker.publish(1)
      broker.take(2)
      if (number % 2 === 0) meter.acknowledged()
    }
    expect(Math.min(broker.gaps, 1)).toBe(expected)
  }
})
