import fc from 'fast-check'
import { expect, test } from 'vitest'
import { TopicQueues } from '../../src/push/topic-queues.ts'

const item = (topic: string, sequence: number) => ({ message: { topic }, sequence })
type Item = ReturnType<typeof item>

/** The same by looking at every message that waits. */
class AllMessages {
  waiting: Item[] = []
  readonly busy = new Set<string>()

  take(count: number): Item[] {
    const taken = this.waiting.filter(({ message }) => !this.busy.has(message.topic)).slice(0, count)
    this.waiting = this.waiting.filter((one) => !taken.includes(one))
    for (const { message } of taken) this.busy.add(message.topic)
    return taken
  }

  release(items: readonly Item[]): void {
    for (const { message } of items) this.busy.delete(message.topic)
  }
}

test('given out are the oldest messages whose topic is free, whatever is added, taken and released', () => {
  const step = fc.oneof(
    fc.record({ add: fc.constantFrom('a', 'b', 'c', 'd', 'e') }),
    fc.record({ take: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ release: fc.nat() }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const [queues, all] = [new TopicQueues<Item>(), new AllMessages()]
      const open: Item[][] = []
      let sequence = 0
      for (const { add, take, release } of steps as { add?: string; take?: number; release?: number }[]) {
        if (add !== undefined) {
          const added = item(add, (sequence += 1))
          queues.add(added)
          all.waiting.push(added)
        } else if (take !== undefined) {
          const taken = queues.take(take)
          expect(taken).toEqual(all.take(take))
          if (taken.length > 0) open.push(taken)
        } else if (open.length > 0) {
          const [released] = open.splice(release! % open.length, 1)
          queues.release(released!)
          all.release(released!)
        }
      }
    }),
    { numRuns: 500 },
  )
})
