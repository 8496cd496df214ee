import { expect, test } from 'vitest'
import { MemoryAccount } from '../../../src/memory/account.ts'
import type { StreamMessage } from '../../../src/stream/events.ts'
import { FanOut } from '../../../src/stream/fan-out.ts'
import { ndjson } from '../../../src/stream/formats/ndjson.ts'
import { join, JoinFailed } from '../../../src/stream/shared/join.ts'
import { Lingering } from '../../../src/stream/shared/lingering.ts'
import { SubscribedChannel } from '../../../src/stream/shared/subscribed-channel.ts'

const account = new MemoryAccount({ totalBytes: 1e9 })
const share = account.shareOf('test')
const message = (topic: string, payload: string | Buffer): StreamMessage => ({
  topic,
  payload: Buffer.from(payload),
  qos: 1,
})
const texts = (messages: readonly StreamMessage[]) => messages.map(({ topic, payload }) => `${topic} ${payload}`)

/** A channel that things happen to while a reader joins it. */
function createChannel() {
  let sequence = 7
  const subscribed = new SubscribedChannel<StreamMessage>({
    key: 'key',
    filters: ['#'],
    qos: 1,
    share,
    channel: {
      limits: { bytes: 1e6, messages: 1000 },
      epoch: 'e',
      baseSequence: sequence,
      isSharedSubscription: false,
      fanOut: new FanOut(),
      counters: { gap: () => {} },
    },
    encoder: {
      name: 'test',
      format: ndjson,
      messageData: ({ payload }) => JSON.stringify(`${payload}`),
      withExpiry: (event) => event,
    },
    lingerMs: 0,
    lingering: new Lingering(),
    onIdle: () => {},
    onUnused: () => {},
  })
  const { channel } = subscribed
  return {
    subscribed,
    deliver(live: StreamMessage): void {
      sequence += 1
      channel.add(subscribed.frameOf(sequence, live))
      for (const recording of subscribed.recordings) recording.record(live)
    },
    gap(): void {
      sequence += 1
      channel.broadcast('gap', { sequence, bytes: Buffer.from('gap') })
    },
    /** Joins with these answers of the broker: what happens while it answers, and what it says. */
    join: (read: (attempt: number) => StreamMessage[], settled: (attempt: number) => void = () => {}) => {
      let [reads, waits] = [0, 0]
      return join(subscribed, true, {
        share,
        newestSequence: () => sequence,
        retained: () => ({
          read: async () => ({ messages: read((reads += 1)), marker: undefined, release: () => {} }),
        }),
        subscriber: () => ({
          prepare: async () => {},
          passed: async () => {
            settled((waits += 1))
            return true
          },
        }),
      })
    },
  }
}

test('the reader begins where the channel stood once the broker had granted its filters', async () => {
  const { subscribed, deliver, join: joinWith } = createChannel()
  let grant: (() => void) | undefined
  subscribed.granted = new Promise((resolve) => (grant = resolve))
  const joining = joinWith(() => {
    deliver(message('a', 'during'))
    return [message('b', 'retained')]
  })
  deliver(message('a', 'before'))
  grant!()
  const { position, sequence, retained } = await joining
  expect([position, sequence]).toEqual([1, 8])
  expect(texts(retained)).toEqual(['b retained'])
  expect(subscribed.recordings.size).toBe(0)
})

test('a retained message whose live copy has come or is on its way is left out, and no other', async () => {
  const { deliver, join: joinWith } = createChannel()
  const { retained } = await joinWith(
    () => {
      deliver(message('a', 'new'))
      return [message('a', 'new'), message('b', 'new'), message('c', 'old'), message('d', 'old')]
    },
    () => {
      deliver(message('b', 'new'))
      deliver(message('c', 'other'))
    },
  )
  expect(texts(retained)).toEqual(['c old', 'd old'])
})

test('without retained messages nothing is waited for', async () => {
  const { join: joinWith } = createChannel()
  const { retained } = await joinWith(
    () => [],
    () => expect.unreachable(),
  )
  expect(retained).toEqual([])
})

test('a gap begins the join again, from where the channel stands then', async () => {
  const { deliver, gap, join: joinWith } = createChannel()
  const { position, retained } = await joinWith(
    (attempt) => {
      deliver(message('a', `${attempt}`))
      return [message('a', '1')]
    },
    (attempt) => attempt < 3 && gap(),
  )
  // Two attempts with a message and a gap each. What the reader finds from here on is the third message alone.
  expect(position).toBe(4)
  expect(texts(retained)).toEqual(['a 1'])
})

test('a gap in each of three attempts fails the join, and leaves no record behind', async () => {
  const { subscribed, gap, join: joinWith } = createChannel()
  let reads = 0
  const joining = joinWith(
    (attempt) => {
      reads = attempt
      return [message('a', '')]
    },
    () => gap(),
  )
  await expect(joining).rejects.toThrow(JoinFailed)
  expect(reads).toBe(3)
  expect(subscribed.recordings.size).toBe(0)
})

test('a failure of the broker fails the join, and leaves no record behind', async () => {
  const { subscribed, join: joinWith } = createChannel()
  const joining = joinWith(() => {
    throw new Error('refused')
  })
  await expect(joining).rejects.toThrow('refused')
  expect(subscribed.recordings.size).toBe(0)
})

test.each([
  ['65,536 messages', 65_537, 0],
  ['16 MiB', 17, 1_048_576],
])('of the topics of live messages beyond %s no retained message is given', async (_limit, count, bytes) => {
  const { deliver, join: joinWith } = createChannel()
  const payload = Buffer.alloc(bytes)
  const { retained } = await joinWith(() => {
    for (let index = 0; index < count; index += 1) deliver(message(`${index}`, payload))
    return [message('0', payload), message('0', 'other'), message(`${count - 1}`, 'other'), message('other', payload)]
  })
  expect(texts(retained)).toEqual(['0 other', `other ${payload}`])
  expect(account.byPurpose.joins).toBe(0)
})

test('where there is no memory for the record, no retained message is given, and a gap says so', async () => {
  const { subscribed, deliver } = createChannel()
  const poor = new MemoryAccount({ totalBytes: 100 }).shareOf('poor')
  const point = await join(subscribed, true, {
    share: poor,
    newestSequence: () => 8,
    retained: () => ({
      read: async () => {
        deliver(message('a', 'new'))
        return { messages: [message('a', 'new'), message('b', 'old')], marker: undefined, release: () => {} }
      },
    }),
    subscriber: () => ({ prepare: async () => {}, passed: async () => true }),
  })
  expect(point).toMatchObject({ retained: [], missing: 'retained-unknown' })
})

test('where live messages may still be on their way, those of their topics are left out, and a gap says so', async () => {
  const { deliver, subscribed } = createChannel()
  const point = await join(subscribed, true, {
    share,
    newestSequence: () => 8,
    retained: () => ({
      read: async () => {
        deliver(message('a', 'old'))
        return { messages: [message('a', 'new'), message('b', 'old')], marker: undefined, release: () => {} }
      },
    }),
    subscriber: () => ({ prepare: async () => {}, passed: async () => false }),
  })
  expect(texts(point.retained)).toEqual(['b old'])
  expect(point.missing).toBe('retained-unknown')
})

test('a stream is opened without what the broker is late with, which comes later', async () => {
  const { deliver, gap, subscribed } = createChannel()
  let answer!: () => void
  const answered = new Promise<void>((resolve) => (answer = resolve))
  const options = {
    share,
    newestSequence: () => 8,
    openMs: 0,
    retained: () => ({
      read: async () => {
        await answered
        return { messages: [message('a', 'new'), message('b', 'old')], marker: undefined, release: () => {} }
      },
    }),
    subscriber: () => ({ prepare: async () => {}, passed: async () => true }),
  }
  deliver(message('z', 'before'))
  const point = await join(subscribed, true, options)
  expect(point).toMatchObject({ position: 1, retained: [] })
  deliver(message('a', 'old'))
  // The reader has its place, so the gap stays in its log.
  gap()
  answer()
  const later = (await point.later)!
  expect([texts(later.retained), later.missing]).toEqual([['b old'], undefined])
})

test('a stream that was opened without is told if the broker fails to answer at all', async () => {
  const { subscribed } = createChannel()
  let fail!: (error: Error) => void
  const answered = new Promise<never>((_resolve, reject) => (fail = reject))
  const point = await join(subscribed, true, {
    share,
    newestSequence: () => 8,
    openMs: 0,
    retained: () => ({ read: () => answered }),
    subscriber: () => ({ prepare: async () => {}, passed: async () => true }),
  })
  fail(new Error('late'))
  expect(await point.later).toMatchObject({ retained: [], missing: 'retained-unknown' })
})

test('a reader that wants no retained messages asks the broker for nothing', async () => {
  const { subscribed, deliver } = createChannel()
  deliver(message('a', 'before'))
  const unused = () => expect.unreachable()
  const options = { share, newestSequence: () => 8, retained: unused, subscriber: unused }
  expect(await join(subscribed, false, options)).toMatchObject({ position: 1, sequence: 8, retained: [] })
})
