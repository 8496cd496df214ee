import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { inOrder } from '../../../src/http/message/in-order.ts'

interface Item {
  name: number
  bytes: number
  turns: number
}

async function* from(batches: Item[][]): AsyncGenerator<Item[]> {
  for (const batch of batches) {
    yield batch
    await turn()
  }
}

test('results come in the order of the items, however long each takes, within the limits', async () => {
  const item = fc.record({ bytes: fc.nat(6), turns: fc.nat(4) })
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(item, { maxLength: 6 }), { maxLength: 5 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 8 }),
      async (shape, items, bytes) => {
        let name = 0
        const batches = shape.map((batch) => batch.map((one) => ({ ...one, name: name++ })))
        const underWay = new Set<Item>()
        const results: string[] = []
        const work = async (one: Item): Promise<string> => {
          underWay.add(one)
          expect(underWay.size).toBeLessThanOrEqual(items)
          if (underWay.size > 1) {
            expect(
              [...underWay].filter((other) => other.bytes > 0).reduce((sum, other) => sum + other.bytes, 0),
            ).toBeLessThanOrEqual(Math.max(bytes, one.bytes))
          }
          for (let left = one.turns; left > 0; left -= 1) await turn()
          underWay.delete(one)
          return `${one.name},`
        }
        for await (const joined of inOrder(from(batches), work, { items, bytes })) results.push(joined)
        expect(results.join('')).toBe(
          batches
            .flat()
            .map((one) => `${one.name},`)
            .join(''),
        )
      },
    ),
    { numRuns: 200 },
  )
})

test('results of one turn of the loop come joined', async () => {
  const items = Array.from({ length: 5 }, (_, name) => ({ name, bytes: 1, turns: 0 }))
  const results: string[] = []
  for await (const joined of inOrder(from([items]), async ({ name }) => `${name},`, { items: 9, bytes: 9 })) {
    results.push(joined)
  }
  expect(results).toEqual(['0,1,2,3,4,'])
})

test('the first result does not wait for items that are yet to come', async () => {
  async function* trickle(): AsyncGenerator<Item[]> {
    yield [{ name: 0, bytes: 1, turns: 0 }]
    await new Promise(() => {})
  }
  const results = inOrder(trickle(), async ({ name }) => `${name}`, { items: 9, bytes: 9 })
  expect(await results.next()).toEqual({ done: false, value: '0' })
})

test('reads no further while nobody takes the results', async () => {
  let read = 0
  async function* endless(): AsyncGenerator<Item[]> {
    for (;;) yield [{ name: (read += 1), bytes: 1, turns: 0 }]
  }
  const results = inOrder(endless(), async ({ name }) => `${name},`, { items: 4, bytes: 9 })
  await results.next()
  await delay(20)
  // At most: four items, four more in the place of those that were taken with the first result, and one read ahead.
  expect(read).toBeLessThanOrEqual(4 + 4 + 1)
  await results.return(undefined)
})

test('what the items throw comes behind the results of those before', async () => {
  async function* failing(): AsyncGenerator<Item[]> {
    yield [{ name: 0, bytes: 1, turns: 3 }]
    throw new Error('cut off')
  }
  const results = inOrder(failing(), async ({ name }) => (await delay(5), `${name}`), { items: 9, bytes: 9 })
  expect(await results.next()).toEqual({ done: false, value: '0' })
  await expect(results.next()).rejects.toThrow('cut off')
})

test('ends the items where it is ended', async () => {
  let ended = false
  async function* endless(): AsyncGenerator<Item[]> {
    try {
      for (;;) yield [{ name: 0, bytes: 1, turns: 0 }]
    } finally {
      ended = true
    }
  }
  const results = inOrder(endless(), async () => 'x', { items: 2, bytes: 9 })
  await results.next()
  await results.return(undefined)
  await expect.poll(() => ended).toBe(true)
})
