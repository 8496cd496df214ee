import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MemoryAccount, type Purpose } from '../../src/memory/account.ts'

describe('one caller', () => {
  test('gets half of the total, and not a byte more', () => {
    const account = new MemoryAccount({ totalBytes: 1000 })
    const greedy = account.shareOf('a')
    expect(greedy.take('logs', 500)).toBe(true)
    expect(greedy.take('bodies', 1)).toBe(false)
    expect(account.byPurpose).toMatchObject({ logs: 500, bodies: 0 })
  })

  test('is one caller over all its handles', () => {
    const account = new MemoryAccount({ totalBytes: 1000 })
    const [one, other] = [account.shareOf('a'), account.shareOf('a')]
    expect(one.take('logs', 300)).toBe(true)
    expect(other.take('logs', 300)).toBe(false)
    other.give('logs', 300)
    expect(one.heldBytes).toBe(0)
  })

  test('is one caller also over handles that knew of nothing while others came and went', () => {
    const account = new MemoryAccount({ totalBytes: 1000 })
    const [one, other] = [account.shareOf('a'), account.shareOf('a')]
    for (const [taking, seeing] of [
      [one, other],
      [other, one],
      [account.shareOf('a'), one],
    ] as const) {
      expect(taking.take('logs', 300)).toBe(true)
      expect([one.heldBytes, other.heldBytes, account.callerCount]).toEqual([300, 300, 1])
      expect(seeing.take('logs', 201)).toBe(false)
      seeing.give('logs', 300)
      expect([one.heldBytes, other.heldBytes, account.callerCount]).toEqual([0, 0, 0])
    }
  })
})

test('n greedy callers get 1/(n+1) each, and one more still finds room', () => {
  const account = new MemoryAccount({ totalBytes: 100_000 })
  for (let turn = 0; turn < 100_000; turn += 1) account.shareOf(`greedy ${turn % 9}`).take('bodies', 10)
  // The first ones took much while they were alone; what they give back is shared from then on.
  for (let name = 0; name < 9; name += 1) expect(account.shareOf(`greedy ${name}`).heldBytes).toBeGreaterThan(9_900)
  expect(account.heldBytes).toBeLessThanOrEqual(90_000)
  expect(account.shareOf('new').take('publishes', 5_000)).toBe(true)
})

test('what was taken before others came stays, but nothing is added to it', () => {
  const account = new MemoryAccount({ totalBytes: 1000 })
  expect(account.shareOf('a').take('logs', 500)).toBe(true)
  expect(account.shareOf('b').take('logs', 250)).toBe(true)
  expect(account.shareOf('a').take('logs', 1)).toBe(false)
  expect(account.shareOf('c').take('logs', 125)).toBe(true)
})

test('what cannot be refused is counted, and others are refused for it', () => {
  const account = new MemoryAccount({ totalBytes: 1000 })
  account.shareOf('a').takeAnyway('answers', 1500)
  expect(account.heldBytes).toBe(1500)
  expect(account.shareOf('b').take('bodies', 1)).toBe(false)
  account.shareOf('a').give('answers', 1500)
  expect(account.shareOf('b').take('bodies', 1)).toBe(true)
})

describe('where memory is short', () => {
  test('what is only kept for later is given back first: the own, then the others’', () => {
    const account = new MemoryAccount({ totalBytes: 1000 })
    const kept = [
      { name: 'a', bytes: 200 },
      { name: 'b', bytes: 200 },
    ]
    for (const { name, bytes } of kept) account.shareOf(name).takeAnyway('logs', bytes)
    const asked: (string | undefined)[] = []
    account.onShortage((bytes, caller) => {
      asked.push(caller?.name)
      for (const one of kept.filter(({ name }) => caller === undefined || caller.name === name)) {
        account.shareOf(one.name).give('logs', Math.min(bytes, one.bytes))
        one.bytes -= Math.min(bytes, one.bytes)
      }
    })
    expect(account.shareOf('b').take('bodies', 250)).toBe(true)
    expect(asked).toEqual(['b'])
    expect(kept.map(({ bytes }) => bytes)).toEqual([200, 0])
    expect(account.shareOf('b').take('bodies', 200)).toBe(true)
    expect(kept[0]!.bytes).toBe(0)
  })

  test('a refusal is reported with its purpose', () => {
    const refused: Purpose[] = []
    const account = new MemoryAccount({ totalBytes: 10, onRefused: (purpose) => refused.push(purpose) })
    account.shareOf('a').take('retained', 6)
    expect(refused).toEqual(['retained'])
  })
})

describe('something held', () => {
  test('grows and shrinks, and is given back once, whoever releases it again', () => {
    const account = new MemoryAccount({ totalBytes: 1000 })
    const body = account.shareOf('a').hold('bodies')
    expect(body.grow(100)).toBe(true)
    body.growAnyway(900)
    body.shrink(500)
    expect(body.grow(200)).toBe(false)
    expect([body.bytes, account.byPurpose.bodies]).toEqual([500, 500])
    body.release()
    body.release()
    body.shrink(5)
    body.growAnyway(5)
    expect(body.grow(5)).toBe(false)
    expect([body.bytes, account.heldBytes, account.callerCount]).toEqual([0, 0, 0])
  })

  test('whatever is done, the sums agree, and nothing is left once all is released', () => {
    const action = fc.record({
      who: fc.integer({ min: 0, max: 3 }),
      what: fc.constantFrom('grow', 'growAnyway', 'shrink', 'release'),
      bytes: fc.integer({ min: 1, max: 400 }),
    })
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const account = new MemoryAccount({ totalBytes: 1000 })
        const held = ['a', 'b', 'c', 'a'].map((name, index) =>
          account.shareOf(name).hold(index > 1 ? 'logs' : 'bodies'),
        )
        for (const { who, what, bytes } of actions) {
          const one = held[who]!
          if (what === 'release') one.release()
          else one[what as 'grow'](what === 'shrink' ? Math.min(bytes, one.bytes) : bytes)
          expect(account.heldBytes).toBe(held.reduce((sum, each) => sum + each.bytes, 0))
          expect(account.byPurpose.logs).toBe(held[2]!.bytes + held[3]!.bytes)
        }
        for (const one of held) one.release()
        expect([account.heldBytes, account.callerCount]).toEqual([0, 0])
      }),
    )
  })
})
