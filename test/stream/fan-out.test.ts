import { Writable } from 'node:stream'
import { expect, test } from 'vitest'
import { Channel } from '../../src/stream/channel.ts'
import { ndjson } from '../../src/stream/formats/ndjson.ts'
import { Reader } from '../../src/stream/reader.ts'
import { FanOut } from '../../src/stream/fan-out.ts'

const turn = () => new Promise(setImmediate)

function channelOn(fanOut: FanOut): Channel {
  return new Channel({
    format: ndjson,
    limits: { bytes: 1e6, messages: 1000 },
    epoch: 'e',
    baseSequence: 0,
    isSharedSubscription: false,
    fanOut,
    counters: { gap: () => {} },
  })
}

/** Adds so many readers; returns for each of them its list of writes. */
function addReaders(channel: Channel, count: number): string[][] {
  return Array.from({ length: count }, () => {
    const writes: string[] = []
    const response = new Writable({ write: (bytes, _encoding, done) => (writes.push(String(bytes)), done()) })
    channel.readers.add(
      new Reader(response, {
        slow: 'gap',
        position: channel.log.end,
        counters: { wrote: () => {} },
        onDrain: () => {},
        onClose: () => {},
      }),
    )
    return writes
  })
}

/** Resolves once something was written. Between two turns of writing there may be a pause. */
async function nextWrites(all: string[][]): Promise<void> {
  const count = () => all.reduce((sum, { length }) => sum + length, 0)
  for (const before = count(); count() === before;) await turn()
}

const append = (channel: Channel, text: string) =>
  channel.add({ sequence: channel.log.end + 1, bytes: Buffer.from(text) })
/** The number of readers by what they were written. */
const tally = (all: string[][]) =>
  Object.fromEntries(
    [...new Set(all.map((writes) => writes.join(' ')))].map((key) => [
      key,
      all.filter((writes) => writes.join(' ') === key).length,
    ]),
  )

test('a message during a round goes to the readers still to come in it, to the others in the next', async () => {
  const channel = channelOn(new FanOut())
  const readers = addReaders(channel, 250)
  append(channel, 'a')
  append(channel, 'b')
  await nextWrites(readers)
  expect(tally(readers)).toEqual({ ab: 100, '': 150 })
  append(channel, 'c')
  await nextWrites(readers)
  expect(tally(readers)).toEqual({ ab: 100, abc: 100, '': 50 })
  await nextWrites(readers)
  expect(tally(readers)).toEqual({ 'ab c': 50, ab: 50, abc: 150 })
  await nextWrites(readers)
  expect(tally(readers)).toEqual({ 'ab c': 100, abc: 150 })
})

test('a channel with many readers keeps those of another waiting for one turn at most', async () => {
  const fanOut = new FanOut()
  const [many, few] = [channelOn(fanOut), channelOn(fanOut)]
  const [readersOfMany, readersOfFew] = [addReaders(many, 1000), addReaders(few, 2)]
  append(many, 'a')
  append(few, 'b')
  await turn()
  await turn()
  expect(tally(readersOfFew)).toEqual({ b: 2 })
  expect(tally(readersOfMany)['']).toBeGreaterThan(700)
})

test('more bytes than one write takes go to all readers at once, and to none twice', async () => {
  const channel = channelOn(new FanOut())
  const readers = addReaders(channel, 250)
  append(channel, 'a')
  await turn()
  append(channel, 'b'.repeat(70_000))
  expect(tally(readers.map((writes) => [writes.join('')]))).toEqual({ [`a${'b'.repeat(70_000)}`]: 250 })
  await turn()
  append(channel, 'c')
  for (let turns = 0; turns < 3; turns += 1) await nextWrites(readers)
  expect(tally(readers.map((writes) => [writes.join('')]))).toEqual({ [`a${'b'.repeat(70_000)}c`]: 250 })
})

test('readers that come or leave during a round get what is theirs, once', async () => {
  const channel = channelOn(new FanOut())
  const readers = addReaders(channel, 150)
  append(channel, 'a')
  await turn()
  // Two of the first hundred, which were written to in this turn, and one of those still to be written to.
  const [first, , last] = [...channel.readers].filter((_, index) => [0, 1, 149].includes(index))
  channel.readers.delete(first!)
  channel.readers.delete(last!)
  const late = addReaders(channel, 1)
  append(channel, 'b')
  await expect.poll(() => late[0]).toEqual(['b'])
  expect(readers[0]).toEqual(['a'])
  expect(readers[149]).toEqual([])
  expect(readers[1]!.join('')).toBe('ab')
  expect(readers[120]).toEqual(['ab'])
})

/** How many turns of the event loop there are for each turn of writing, where both have as much to do. */
async function turnsPerWrite(): Promise<number> {
  const fanOut = new FanOut()
  const keepBusy = () => {
    const untilMs = performance.now() + 3
    while (performance.now() < untilMs);
  }
  let writes = 0
  let turns = 0
  const channel = {
    write(maxReaders: number) {
      keepBusy()
      writes += 1
      return maxReaders
    },
    get hasUnwritten() {
      return writes < 40
    },
  }
  fanOut.add(channel)
  while (channel.hasUnwritten) {
    await turn()
    keepBusy()
    turns += 1
  }
  return turns / writes
}

test('where other work takes as long as writing, it leaves the event loop to that for a while', async () => {
  expect(await turnsPerWrite()).toBeGreaterThan(1.1)
})
