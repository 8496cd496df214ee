import { Writable } from 'node:stream'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Channel } from '../../src/stream/channel.ts'
import { catchUp } from '../../src/stream/catch-up.ts'
import { ndjson } from '../../src/stream/formats/ndjson.ts'
import type { Log } from '../../src/stream/log.ts'
import { Reader, type SlowPolicy } from '../../src/stream/reader.ts'
import { FanOut } from '../../src/stream/fan-out.ts'
import type { Frame } from '../../src/stream/slab.ts'

interface Event {
  event: string
  data: { number: number; topic: string } & { reason: string; dropped: number }
}

/** A socket that takes one write when told to. */
function createSocket() {
  let taken: (() => void) | undefined
  const events: Event[] = []
  const socket = new Writable({
    highWaterMark: 1,
    write(chunk: Buffer, _encoding, done) {
      events.push(
        ...chunk
          .toString()
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => JSON.parse(line) as Event),
      )
      taken = done
    },
  })
  async function take(): Promise<boolean> {
    const done = taken
    taken = undefined
    done?.()
    // `drain` comes at the next tick.
    await new Promise(setImmediate)
    return done !== undefined
  }
  return { socket, events, take }
}

function createChannel(messages: number): Channel {
  return new Channel({
    format: ndjson,
    limits: { bytes: 1e6, messages },
    epoch: 'e',
    baseSequence: 0,
    isSharedSubscription: false,
    fanOut: new FanOut(),
    counters: { gap: () => {} },
  })
}

function createReader(channel: Channel, socket: Writable, slow: SlowPolicy): Reader {
  const reader: Reader = new Reader(socket, {
    slow,
    position: 0,
    counters: { wrote: () => {} },
    onDrain: () => catchUp(channel, reader),
    onClose: () => {},
  })
  channel.readers.add(reader)
  return reader
}

function add(log: Log, frame: Frame): void {
  const stored = log.store(frame)
  log.append(stored)
  log.pay(stored.slab)
}

/** Either a message, by the number of its topic, or the socket takes one write. */
const steps = fc.array(
  fc.oneof({ weight: 3, arbitrary: fc.nat(4) }, { weight: 1, arbitrary: fc.constant('take' as const) }),
  { minLength: 50, maxLength: 200, size: 'max' },
)

test.each(['gap', 'latest'] as const)(
  'whatever a reader with slow=%s misses is counted, and nothing comes twice or out of order',
  async (slow) => {
    await fc.assert(
      fc.asyncProperty(steps, fc.integer({ min: 1, max: 12 }), async (sequence, limit) => {
        const channel = createChannel(limit)
        const { socket, events, take } = createSocket()
        const reader = createReader(channel, socket, slow)
        let count = 0
        const newest = new Map<string, number>()
        for (const step of sequence) {
          if (step === 'take') {
            await take()
          } else {
            count += 1
            newest.set(`${step}`, count)
            add(channel.log, {
              sequence: count,
              topic: `${step}`,
              bytes: ndjson.event('message', `${count}`, JSON.stringify({ number: count, topic: `${step}` })),
            })
            catchUp(channel, reader)
          }
        }
        while (await take());
        const numbers = events.filter(({ event }) => event === 'message').map(({ data }) => data.number)
        const dropped = events.filter(({ event }) => event === 'gap').reduce((sum, { data }) => sum + data.dropped, 0)
        expect(numbers.length + dropped).toBe(count)
        expect(numbers).toEqual([...new Set(numbers)].toSorted((a, b) => a - b))
        // Each jump was announced just before it.
        let last = 0
        for (const { event, data } of events) {
          if (event === 'gap') last = -1
          else {
            if (slow === 'gap' && last >= 0) expect(data.number).toBe(last + 1)
            last = data.number
          }
        }
        if (count > 0) expect(numbers.at(-1)).toBe(count)
      }),
      { numRuns: 500 },
    )
  },
)

test('a reader with slow=latest skips to the newest of each topic as they stood, in order', async () => {
  const channel = createChannel(6)
  const { socket, events, take } = createSocket()
  const reader = createReader(channel, socket, 'latest')
  let number = 0
  function publish(topics: string): void {
    for (const topic of topics) {
      number += 1
      add(channel.log, {
        sequence: number,
        topic,
        bytes: ndjson.event('message', `${number}`, JSON.stringify({ number, topic })),
      })
      catchUp(channel, reader)
    }
  }
  publish('aaaaabcabb')
  await take()
  publish('c')
  while (await take());
  expect(
    events.map(({ event, data }) => (event === 'gap' ? `gap ${data.dropped}` : `${data.topic}${data.number}`)),
  ).toEqual(['a1', 'gap 6', 'c7', 'a8', 'b10', 'c11'])
})
