import { expect, test } from 'vitest'
import { ReadTurns } from '../../../src/mqtt/client/read-turns.ts'

const PIECE = 65_536
const TLS_PIECE = 16_384
const turn = () => new Promise(setImmediate)

function readTurns() {
  const calls: string[] = []
  const turns = new ReadTurns({ pause: () => calls.push('pause'), resume: () => calls.push('resume') } as never)
  const take = (count: number, length = PIECE): void => {
    for (let taken = 0; taken < count; taken += 1) turns.took(length)
  }
  return { calls, take }
}

test.each([
  ['', PIECE, 8],
  [' over TLS', TLS_PIECE, 32],
])('after half a megabyte%s the rest is read in the next turn of the event loop', async (_how, length, count) => {
  const { calls, take } = readTurns()
  take(count - 1, length)
  expect(calls).toEqual([])
  take(1, length)
  expect(calls).toEqual(['pause'])
  // Node hands over one more that it had read.
  take(1, length)
  expect(calls).toEqual(['pause'])
  await turn()
  expect(calls).toEqual(['pause', 'resume'])
})

test('each turn counts for itself, and a piece behind which nothing waits counts for nothing', async () => {
  const { calls, take } = readTurns()
  for (let turns = 0; turns < 3; turns += 1) {
    take(7)
    take(100, TLS_PIECE - 1)
    await turn()
  }
  expect(calls).toEqual([])
})
