import { expect, test } from 'vitest'
import { MemoryAccount } from '../../../src/memory/account.ts'
import type { Message } from '../../../src/mqtt/message.ts'
import type { Snapshot } from '../../../src/mqtt/retained/snapshot.ts'
import { SnapshotQueue } from '../../../src/mqtt/retained/snapshot-queue.ts'

const account = new MemoryAccount({ totalBytes: 1e6 })
const shareOf = (name: string) => account.shareOf(name)

/** A queue whose snapshots run until the test ends them. */
function createQueue(runningMax = 100) {
  const running: { snapshot: Snapshot; end: () => void }[] = []
  const begun: string[] = []
  const queue = new SnapshotQueue({
    runningMax: () => runningMax,
    waitMs: 60_000,
    run: (snapshot) => {
      begun.push(snapshot.filter)
      return new Promise<void>((resolve) => running.push({ snapshot, end: resolve }))
    },
  })
  const endFirst = async (): Promise<void> => {
    const { snapshot, end } = running.shift()!
    snapshot.succeed()
    end()
    await turn()
  }
  return { queue, begun, endFirst }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

test('callers take turns, however many snapshots one of them waits for', async () => {
  const { queue, begun, endFirst } = createQueue()
  // All of these overlap, so they run one after the other.
  const greedy = Array.from({ length: 100 }, (_, index) => queue.add(`+/${index}/#`, shareOf('greedy')))
  await turn()
  const others = ['a/#', 'b/#'].map((filter, index) => queue.add(filter, shareOf(`other-${index}`)))
  for (let ended = 0; ended < 4; ended += 1) await endFirst()
  expect(begun.indexOf('a/#')).toBeLessThan(5)
  expect(begun.indexOf('b/#')).toBeLessThan(5)
  for (const use of [...greedy, ...others]) use.release()
})

test('filters that do not overlap run together, and one that overlaps with all still gets its turn', async () => {
  const { queue, begun, endFirst } = createQueue()
  queue.add('a', shareOf('1'))
  queue.add('b', shareOf('2'))
  await turn()
  expect(begun).toEqual(['a', 'b'])
  queue.add('#', shareOf('3'))
  await turn()
  queue.add('c', shareOf('4'))
  await turn()
  // It would run at once, but everything would be in front of # for ever then.
  expect(begun).toEqual(['a', 'b'])
  await endFirst()
  await endFirst()
  expect(begun).toEqual(['a', 'b', '#'])
  await endFirst()
  expect(begun).toEqual(['a', 'b', '#', 'c'])
})

test('all who wait for the same filter share one snapshot, but nobody shares one that has begun', async () => {
  const { queue, begun, endFirst } = createQueue()
  const first = queue.add('a', shareOf('1'))
  await turn()
  const waiting = Array.from({ length: 50 }, (_, index) => queue.add('a', shareOf(`${index}`)))
  await endFirst()
  await first.done
  expect(begun).toEqual(['a', 'a'])
  await endFirst()
  const snapshots = new Set(await Promise.all(waiting.map(({ done }) => done)))
  expect([snapshots.size, begun.length]).toEqual([1, 2])
})

test('what nobody waits for any more is not read', async () => {
  const { queue, begun, endFirst } = createQueue()
  queue.add('a', shareOf('1'))
  await turn()
  const gone = queue.add('a', shareOf('2'))
  gone.release()
  await endFirst()
  expect(begun).toEqual(['a'])
})

test('a snapshot is paid for by whoever has room, and given back with the last one who has it', async () => {
  const { queue, endFirst } = createQueue()
  const [poor, rich] = [shareOf('poor'), shareOf('rich')]
  const rest = account.shareOf('poor')
  rest.takeAnyway('logs', 600_000)
  let snapshot!: Snapshot
  const shared = [queue.add('b', poor), queue.add('b', rich)]
  void shared[0]!.done.then((done) => (snapshot = done))
  await turn()
  await endFirst()
  expect(snapshot.pay(1000)).toBe(true)
  snapshot.messages.set('b', { topic: 'b' } as Message)
  expect([rich.heldBytes, poor.heldBytes]).toEqual([1000, 600_000])
  shared[0]!.release()
  shared[0]!.release()
  expect(rich.heldBytes).toBe(1000)
  shared[1]!.release()
  expect([rich.heldBytes, snapshot.messages.size]).toEqual([0, 0])
  rest.give('logs', 600_000)
})

test('whoever gives a snapshot back pays for it no longer: the next one who has it does', async () => {
  const { queue, endFirst } = createQueue()
  const [first, second] = [shareOf('first'), shareOf('second')]
  const shared = [queue.add('b', first), queue.add('b', second)]
  let snapshot!: Snapshot
  void shared[0]!.done.then((done) => (snapshot = done))
  await turn()
  await endFirst()
  expect(snapshot.pay(1000)).toBe(true)
  expect([first.heldBytes, second.heldBytes]).toEqual([1000, 0])
  shared[0]!.release()
  expect([first.heldBytes, second.heldBytes]).toEqual([0, 1000])
  shared[1]!.release()
  expect([first.heldBytes, second.heldBytes]).toEqual([0, 0])
})
