import { Writable } from 'node:stream'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import { MemoryAccount } from '../../src/memory/account.ts'
import type { Encoder, StreamMessage } from '../../src/stream/events.ts'
import { ndjson } from '../../src/stream/formats/ndjson.ts'
import { NoRoom } from '../../src/stream/no-room.ts'
import { SharedStreams, type StreamRequest } from '../../src/stream/shared/shared-streams.ts'
import type { SubscribedChannel } from '../../src/stream/shared/subscribed-channel.ts'

type Channel = SubscribedChannel<StreamMessage>

const encoder: Encoder<StreamMessage> = {
  name: 'test',
  format: ndjson,
  messageData({ payload }) {
    if (payload.includes('unencodable')) throw new RangeError('Invalid string length')
    return JSON.stringify(payload.toString())
  },
  withExpiry: (event) => event,
}
const turn = () => new Promise(setImmediate)

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** What array buffers take in memory that are in use. */
function arrayBufferBytes(): number {
  collectGarbage()
  collectGarbage()
  return process.memoryUsage().arrayBuffers
}

/** Streams whose broker grants every filter at once, and has the given retained messages. */
function createStreams(totalBytes: number, retained: StreamMessage[] = []) {
  const memory = new MemoryAccount({ totalBytes })
  const subscribed = new Set<Channel>()
  const faults: unknown[] = []
  const gaps: string[] = []
  const closed: string[] = []
  const ignore = () => {}
  let reading = 0
  const streams = new SharedStreams<StreamMessage>({
    subscriber: () => ({
      add: async (channel) => void subscribed.add(channel),
      remove: (channel) => void subscribed.delete(channel),
      prepare: async () => {},
      passed: async () => true,
      grantedQoS: () => 1,
    }),
    retained: () => ({
      async read() {
        reading += 1
        return { messages: retained, marker: undefined, release: () => void (reading -= 1) }
      },
    }),
    epoch: 'e',
    limits: { bytes: 100_000, messages: 1000 },
    lingerMs: 60_000,
    heartbeatMs: 60_000,
    stallMs: 60_000,
    memory,
    sizeOf: ({ payload }) => payload.length + 256,
    counters: {
      received: ignore,
      redelivered: ignore,
      opened: ignore,
      wrote: ignore,
      gap: (reason) => gaps.push(reason),
      resumed: ignore,
      closed: (_format, reason) => closed.push(reason),
    },
    onRefused: ignore,
    onFault: (error) => faults.push(error),
  })
  async function open(
    caller: string,
    filter: string,
    {
      isStalled = false,
      isSlow = false,
      ...more
    }: Partial<StreamRequest<StreamMessage>> & { isStalled?: boolean; isSlow?: boolean } = {},
  ) {
    const request = { filters: [filter], isSharedSubscription: false, qos: 1, encoder, slow: 'gap' } as const
    const opened = await streams.open(
      { ...request, retained: false, lastEventId: undefined, lingeringMax: 1000, ...more },
      memory.shareOf(caller),
    )
    let text = ''
    let waiting: (() => void) | undefined
    const response = new Writable({
      ...(isSlow && { highWaterMark: 1 }),
      write(bytes, _encoding, done) {
        text += bytes
        if (isStalled) waiting = done
        else if (isSlow) setImmediate(done)
        else done()
      },
    })
    opened.start(response)
    return {
      response,
      events: () =>
        text
          .split('\n')
          .slice(0, -1)
          .map((line) => JSON.parse(line)),
      stall: () => (isStalled = true),
      resume() {
        isStalled = false
        waiting?.()
      },
    }
  }
  const channelOf = (filter: string) => [...subscribed].find(({ filters }) => filters.includes(filter))!
  async function deliver(payload: string, filters: string[], topic = 't') {
    streams.message({ topic, payload: Buffer.from(payload), qos: 1 }, new Set(filters.map(channelOf)))
    await turn()
  }
  return { streams, memory, subscribed, faults, gaps, closed, open, deliver, channelOf, reading: () => reading }
}

test('a stream that is closed and forgotten gives back all that it held', async () => {
  const { streams, memory, open, deliver } = createStreams(1e8)
  const [first, second] = [await open('a', 'x'), await open('b', 'x'), await open('b', 'y')]
  for (let count = 0; count < 300; count += 1) await deliver('message', ['x', 'y'])
  expect(Object.entries(memory.byPurpose).flatMap(([name, bytes]) => (bytes > 0 ? [name] : []))).toEqual([
    'logs',
    'streams',
    'filters',
  ])
  first!.response.destroy()
  second!.response.destroy()
  await turn()
  streams.close()
  await turn()
  expect([memory.heldBytes, memory.callerCount]).toEqual([0, 0])
})

test('a message of many channels is one buffer, and counted once until no log holds it', async () => {
  const { streams, memory, open, deliver, subscribed } = createStreams(1e8)
  const filters = Array.from({ length: 100 }, (_, index) => `f${index}`)
  for (const filter of filters) await open(filter, filter)
  const before = memory.byPurpose.logs
  const count = 200
  for (let sent = 0; sent < count; sent += 1) await deliver('x'.repeat(1000), filters)
  // A copy for each channel would be 20 MB. What is more than one copy is the places in the logs.
  expect(memory.byPurpose.logs - before).toBeLessThan(count * 1500 + filters.length * 8192)
  await deliver('x'.repeat(10_000), filters)
  const [first, second] = [...subscribed].map(({ channel: { log } }) => log.readOne(log.end - 1)!.buffer)
  expect(first).toBe(second)
  const payers = filters.filter((filter) => memory.shareOf(filter).heldBytes > 11_000)
  expect(payers.length).toBeGreaterThan(50)
  streams.close()
  await turn()
  expect(memory.byPurpose.logs).toBe(0)
})

test('at its limit a caller keeps less for those who come back, and still gets all that is new', async () => {
  const { memory, open, deliver, channelOf, gaps } = createStreams(200_000)
  const reader = await open('a', 'x')
  for (let sent = 0; sent < 300; sent += 1) await deliver(`${sent} `.padEnd(2000, '.'), ['x'])
  const messages = reader.events().filter(({ event }) => event === 'message')
  expect(messages.map(({ data }) => Number.parseInt(data, 10))).toEqual(Array.from({ length: 300 }, (_, n) => n))
  expect(memory.heldBytes).toBeLessThanOrEqual(200_000)
  expect(channelOf('x').channel.log.bytes).toBeLessThan(100_000)
  expect(gaps).toEqual([])
})

test('at its limit a caller gives up parts of its largest logs, so that none of them is emptied', async () => {
  const { open, deliver, channelOf } = createStreams(1_000_000)
  const filters = Array.from({ length: 10 }, (_, index) => `f${index}`)
  for (const filter of filters) await open('a', filter)
  for (let sent = 0; sent < 1500; sent += 1) await deliver('x'.repeat(1000), [filters[sent % filters.length]!])
  const sizes = filters.map((filter) => channelOf(filter).channel.log.bytes)
  expect(Math.min(...sizes)).toBeGreaterThan(Math.max(...sizes) / 4)
})

test('at its limit a caller loses no stream whose socket is full for a moment, and no message of it', async () => {
  const { memory, open, deliver, closed, gaps } = createStreams(1_000_000)
  const filters = Array.from({ length: 10 }, (_, index) => `f${index}`)
  const readers = await Promise.all(filters.map((filter) => open('a', filter, { isSlow: true })))
  const numbers = Array.from({ length: 500 }, (_, index) => index)
  for (let sent = 0; sent < numbers.length; sent += 5) {
    // In one turn, so that the readers have not been written the latest ones when room is needed for the next one.
    const some = numbers.slice(sent, sent + 5)
    await Promise.all(some.flatMap((number) => filters.map((filter) => deliver(`${number}`.padEnd(2000), [filter]))))
    await turn()
  }
  for (const reader of readers) {
    const messages = reader.events().filter(({ event }) => event === 'message')
    expect(messages.map(({ data }) => Number(data))).toEqual(numbers)
  }
  expect(memory.byPurpose.logs).toBeLessThanOrEqual(500_000)
  expect([closed, gaps]).toEqual([[], []])
})

test('a message that finds no room at all reaches the readers that take it, and leaves nothing behind', async () => {
  const { memory, open, deliver, channelOf } = createStreams(200_000)
  const reader = await open('a', 'x')
  const other = memory.shareOf('a')
  while (other.take('bodies', 1000));
  await deliver('new', ['x'])
  await deliver('newer', ['x'])
  expect(
    reader
      .events()
      .slice(1)
      .map(({ data }) => data),
  ).toEqual(['new', 'newer'])
  expect(channelOf('x').channel.log.bytes).toBe(0)
})

test('a channel that ends to make room for its own message leaves nothing behind', async () => {
  const { memory, open, deliver } = createStreams(200_000)
  const reader = await open('a', 'x')
  reader.response.destroy()
  await turn()
  memory.shareOf('a').takeAnyway('bodies', 99_900 - memory.heldBytes)
  await deliver('x'.repeat(1000), ['x'])
  expect([memory.byPurpose.logs, memory.byPurpose.filters]).toEqual([0, 0])
})

test('at its limit a caller loses its longest idle lingering channel first, and nobody else loses one', async () => {
  const { memory, open, subscribed } = createStreams(120_000)
  const [other] = [await open('b', 'other')]
  other!.response.destroy()
  const names = Array.from({ length: 12 }, (_, index) => `f${index}`)
  for (const name of names) {
    const reader = await open('a', name)
    reader.response.destroy()
    await turn()
  }
  const kept = [...subscribed].map(({ filters }) => filters[0]!)
  expect(kept).toContain('other')
  expect(kept.at(-1)).toBe('f11')
  expect(kept).not.toContain('f0')
  expect(kept.slice(1)).toEqual(names.slice(-(kept.length - 1)))
  expect(memory.shareOf('a').heldBytes).toBeLessThan(60_000)
})

test('no more channels of a caller linger than it may, and those of others stay', async () => {
  const { open, subscribed } = createStreams(1e9)
  for (const [caller, filter] of [
    ['b', 'other'],
    ['a', 'f1'],
    ['a', 'f2'],
    ['a', 'f3'],
  ] as const) {
    const reader = await open(caller, filter, { lingeringMax: 2 })
    reader.response.destroy()
    await turn()
  }
  expect([...subscribed].map(({ filters }) => filters[0])).toEqual(['other', 'f2', 'f3'])
})

test('filters cost what their levels take, and a caller without room gets no stream', async () => {
  const { memory, open } = createStreams(1_000_000)
  const deep = (index: number) => `${index}${'/a'.repeat(200)}`
  await open('a', deep(0))
  expect(memory.byPurpose.filters).toBeGreaterThan(80_000)
  const opened = async () => {
    for (let index = 1; ; index += 1) await open('a', deep(index))
  }
  await expect(opened()).rejects.toThrow(NoRoom)
  await open('b', 'x')
})

test('a channel whose opener has left takes the memory of a caller that still reads it', async () => {
  const { memory, open, deliver } = createStreams(1e8)
  const first = await open('a', 'x')
  await open('b', 'x')
  await deliver('message', ['x'])
  first.response.destroy()
  await turn()
  expect(memory.shareOf('a').heldBytes).toBe(0)
  expect(memory.shareOf('b').heldBytes).toBe(memory.heldBytes)
})

test('a caller does not pay for what only others still hold once its memory is short', async () => {
  const { memory, open, deliver, channelOf } = createStreams(400_000)
  await open('victim', 'all')
  await open('other', 'some')
  for (let sent = 0; sent < 40; sent += 1) await deliver('x'.repeat(1000), ['all', 'some'])
  channelOf('all').channel.log.shrink(Infinity)
  const held = memory.shareOf('victim').heldBytes
  expect(held).toBeGreaterThan(15_000)
  while (memory.shareOf('victim').take('bodies', 10_000));
  expect(memory.shareOf('victim').heldBytes - memory.byPurpose.bodies).toBeLessThan(held - 15_000)
})

test('few messages of quiet channels among many others take about the memory that is counted', async () => {
  const { memory, streams, open, channelOf } = createStreams(1e9)
  const filters = ['busy', ...Array.from({ length: 20 }, (_, index) => `quiet${index}`)]
  for (const filter of filters) await open('a', filter)
  const [busy, ...quiet] = filters.map((filter) => new Set([channelOf(filter)]))
  const send = (channels: Set<Channel>, bytes: number) =>
    streams.message({ topic: 't', payload: Buffer.alloc(bytes, 'x'), qos: 1 }, channels)
  const before = arrayBufferBytes()
  for (let sent = 0; sent < 10_000; sent += 1) {
    for (let count = 0; count < 3; count += 1) send(busy!, 3000)
    send(quiet[sent % 20]!, 100)
    if (sent % 10 === 0) await turn()
  }
  expect(memory.byPurpose.logs).toBeLessThan(5e6)
  expect(arrayBufferBytes() - before).toBeLessThan(memory.byPurpose.logs + 2e6)
})

test('memory of a busy channel that a quiet one of the same caller still needs little of is given up first', async () => {
  const { memory, streams, open, channelOf } = createStreams(3_000_000)
  for (const filter of ['busy', 'quiet']) await open('a', filter)
  const [busy, quiet] = [channelOf('busy'), channelOf('quiet')]
  for (let sent = 0; sent < 20_000; sent += 1) {
    const message: StreamMessage = { topic: 't', payload: Buffer.alloc(200, 'x'), qos: 1 }
    streams.message(message, new Set(sent % 99 === 0 ? [busy, quiet] : [busy]))
  }
  await turn()
  expect(memory.byPurpose.logs).toBeGreaterThan(800_000)
  const counts = () => [busy, quiet].map(({ channel: { log } }) => log.end - log.start)
  const before = counts()
  expect(memory.shareOf('a').take('bodies', 1_000_000)).toBe(true)
  expect(memory.byPurpose.logs).toBeLessThan(400_000)
  expect(counts()).toEqual(before)
})

test('what a stalled reader has not taken is counted once for all readers of the same chunk', async () => {
  const { memory, open, deliver } = createStreams(1e8)
  const readers = [await open('a', 'x'), await open('b', 'x'), await open('b', 'x')]
  const before = memory.byPurpose.streams
  for (const reader of readers) reader.stall()
  await deliver('x'.repeat(50_000), ['x'])
  expect(memory.byPurpose.streams - before).toBeGreaterThan(50_000)
  expect(memory.byPurpose.streams - before).toBeLessThan(60_000)
  readers[0]!.resume()
  await turn()
  expect(memory.byPurpose.streams - before).toBeGreaterThan(50_000)
  readers[1]!.response.destroy()
  readers[2]!.resume()
  await turn()
  await turn()
  expect(memory.byPurpose.streams - before).toBeLessThan(0)
})

test('what was read for a reader is given back once it is written, or the reader is gone', async () => {
  const retained = Array.from({ length: 100 }, () => ({ topic: 'r', payload: Buffer.alloc(1000), qos: 1 as const }))
  const { memory, open, reading } = createStreams(1_000_000, retained)
  await open('a', 'x', { retained: true })
  expect([memory.byPurpose.joins, reading()]).toEqual([0, 0])
  const stalled = await open('a', 'x', { retained: true, isStalled: true })
  const gone = await open('a', 'x', { retained: true, isStalled: true })
  expect([memory.byPurpose.joins > 0, reading()]).toEqual([true, 2])
  gone.response.destroy()
  await turn()
  expect(reading()).toBe(1)
  stalled.resume()
  await turn()
  expect([memory.byPurpose.joins, reading()]).toEqual([0, 0])
})

test('where there is no room for the list of what was read, the stream is refused', async () => {
  const retained = Array.from({ length: 1000 }, () => ({ topic: 'r', payload: Buffer.from('x'), qos: 1 as const }))
  const { memory, open, reading } = createStreams(20_000, retained)
  await expect(open('a', 'x', { retained: true })).rejects.toThrow(NoRoom)
  expect([memory.byPurpose.joins, reading()]).toEqual([0, 0])
})

test('a message that cannot be encoded is a gap with its own reason, in live, retained and shared streams', async () => {
  const unencodable = { topic: 'r', payload: Buffer.from('unencodable'), qos: 1 as const }
  const { streams, open, deliver, channelOf, gaps, faults } = createStreams(1e8, [unencodable])
  const reader = await open('a', 'x', { retained: true })
  await deliver('before', ['x'])
  await deliver('unencodable', ['x'])
  await deliver('after', ['x'])
  const gap = { reason: 'message-too-large', dropped: 1 }
  expect(
    reader
      .events()
      .slice(1)
      .map(({ data }) => data),
  ).toEqual([gap, 'before', gap, 'after'])
  const worker = await open('a', '$share/g/w', { isSharedSubscription: true })
  const channels = new Set([channelOf('$share/g/w')])
  for (const payload of ['1', 'unencodable', '2']) {
    streams.shared({ topic: 't', payload: Buffer.from(payload), qos: 1 }, channels)
  }
  await turn()
  expect(
    worker
      .events()
      .slice(1)
      .map(({ data }) => data),
  ).toEqual(['1', gap, '2'])
  expect(gaps).toEqual(Array.from({ length: 3 }, () => 'message-too-large'))
  expect(faults).toEqual([])
})

test('what waits in a shared subscription keeps nothing alive of what it was read with', async () => {
  const { streams, open, channelOf } = createStreams(1e8)
  const worker = await open('a', '$share/g/w', { isSharedSubscription: true })
  const channels = new Set([channelOf('$share/g/w')])
  worker.stall()
  const messages: { topic: string; payload: Buffer; qos: 1 }[] = []
  // The first ones fill the socket.
  for (let sent = 0; sent < 60; sent += 1) {
    const payload = Buffer.alloc(65_536, String(sent % 10)).subarray(100, 1100)
    messages.push({ topic: 't', payload, qos: 1 })
    streams.shared(messages.at(-1)!, channels)
    if (sent % 7 === 0) await turn()
  }
  await turn()
  const waiting = messages.slice(-30)
  expect(waiting.map(({ payload }) => payload.buffer.byteLength)).toEqual(waiting.map(() => 1000))
  worker.resume()
  for (let turns = 0; turns < 60; turns += 1) await turn()
  const received = worker.events().flatMap(({ event, data }) => (event === 'message' ? [data] : []))
  expect(received).toEqual(messages.map(({ payload }) => String(payload)))
})

test('a message larger than the whole log is a gap, and is not even encoded', async () => {
  const { open, deliver } = createStreams(1e8)
  const reader = await open('a', 'x')
  await deliver('unencodable'.padEnd(100_001), ['x'])
  expect(reader.events().at(-1)).toMatchObject({ event: 'gap', data: { reason: 'message-too-large' } })
})

test('an error of one reader or channel ends its stream, and nobody else notices', async () => {
  const { open, deliver, channelOf, faults } = createStreams(1e8)
  const [broken, fine, other] = [await open('a', 'x'), await open('a', 'x'), await open('a', 'y')]
  broken.response.write = () => {
    throw new Error('a write')
  }
  await deliver('1', ['x', 'y'])
  expect(broken.response.destroyed).toBe(true)
  channelOf('x').channel.append = () => {
    throw new Error('an append')
  }
  await deliver('2', ['x', 'y'])
  expect(
    fine
      .events()
      .slice(1)
      .map(({ data }) => data),
  ).toEqual(['1'])
  expect(fine.response.writableEnded).toBe(true)
  await deliver('3', ['y'])
  expect(
    other
      .events()
      .slice(1)
      .map(({ data }) => data),
  ).toEqual(['1', '2', '3'])
  expect(faults.map(String)).toEqual(['Error: a write', 'Error: an append'])
})
