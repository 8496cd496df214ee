import { expect, test } from 'vitest'
import { MemoryAccount } from '../../../src/memory/account.ts'
import type { StreamMessage } from '../../../src/stream/events.ts'
import { FanOut } from '../../../src/stream/fan-out.ts'
import { ndjson } from '../../../src/stream/formats/ndjson.ts'
import { join, JoinFailed } from '../../../src/stream/shared/join.ts'
import { Lingering } from '../../../src/stream/shared/lingering.ts'
import { SubscribedChannel } from '../../../src/stream/shared/subscribed-channel.ts'

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
    share: new MemoryAccount({ totalBytes: 1e8 }).shareOf('caller'),
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
      channel.append(subscribed.frameOf(sequence, live))
      for (const recording of subscribed.recordings) recording.record(live)
    },
    gap(): void {
      sequence += 1
      channel.broadcast('gap', { sequence, bytes: Buffer.from('gap') })
    },
    /** Joins with these answers of the broker: what happens while it answers, and what it says. */
    join: (read: (attempt: number) => StreamMessage[], settled: (attempt: number) => void = () => {}) => {
      let [reads, waits] = [0, 0]
      return join(subscribed, true, () => sequence, {
        retained: () => ({ read: async () => read((reads += 1)) }),
        subscriber: () => ({ settled: async () => settled((waits += 1)) }),
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
  ['65,536 messages', 65_536, 0],
  ['16 MiB of payload', 16, 1_048_576],
])('of the live messages no more than %s are recorded', async (_limit, count, bytes) => {
  const { deliver, join: joinWith } = createChannel()
  const payload = Buffer.alloc(bytes)
  const { retained } = await joinWith(() => {
    for (let index = 0; index <= count; index += 1) deliver(message(`${index}`, payload))
    return [message('0', payload), message(`${count - 1}`, payload), message(`${count}`, payload)]
  })
  expect(retained.map(({ topic }) => topic)).toEqual([`${count}`])
})

test('a reader that wants no retained messages asks the broker for nothing', async () => {
  const { subscribed, deliver } = createChannel()
  deliver(message('a', 'before'))
  const unused = () => expect.unreachable()
  const point = await join(subscribed, false, () => 8, { retained: unused, subscriber: unused })
  expect(point).toEqual({ position: 1, sequence: 8, retained: [] })
})
