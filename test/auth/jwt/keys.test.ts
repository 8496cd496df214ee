import { errors } from 'jose'
import { describe, expect, test } from 'vitest'
import { RemoteKeys, type RemoteKeysOptions } from '../../../src/auth/jwt/keys.ts'
import { type Issuer, startIssuer } from '../../support/issuer.ts'

function keysOf(issuer: Issuer, options: Partial<RemoteKeysOptions> = {}) {
  const states: boolean[] = []
  const keys = new RemoteKeys({ url: issuer.url, onState: (available) => void states.push(available), ...options })
  return { states, find: async (kid: string) => keys.find({ alg: 'ES256', kid }, undefined as never) }
}

const UNAVAILABLE = { kind: { code: 'keys-unavailable' } }

test('keys are fetched once, however many tokens want one at a time', async () => {
  const issuer = await startIssuer()
  const { find } = keysOf(issuer)
  await Promise.all(Array.from({ length: 50 }, () => find('key-1')))
  await find('key-1')
  expect(issuer.requests).toBe(1)
})

test('a key that is not among them is looked for again, once it may be a new one', async () => {
  const issuer = await startIssuer()
  const { find } = keysOf(issuer, { cooldownMs: 100 })
  await find('key-1')
  await issuer.rotate()
  await expect
    .poll(() =>
      find('key-2').then(
        () => true,
        () => false,
      ),
    )
    .toBe(true)
  await expect(find('key-1')).rejects.toThrow(errors.JWKSNoMatchingKey)
})

test('keys that nobody has do not make a fetch each', async () => {
  const issuer = await startIssuer()
  const { find } = keysOf(issuer)
  for (let kid = 0; kid < 20; kid += 1) await expect(find(`none-${kid}`)).rejects.toThrow(errors.JWKSNoMatchingKey)
  expect(issuer.requests).toBe(1)
})

test('keys that have become old are fetched again, and nobody waits for it', async () => {
  const issuer = await startIssuer()
  const { find } = keysOf(issuer, { freshMs: 0, cooldownMs: 0 })
  await find('key-1')
  await find('key-1')
  await expect.poll(() => issuer.requests).toBeGreaterThan(1)
})

describe('an issuer that fails', () => {
  test.each([500, 404, 302])('with %i leaves no keys, and is not asked by every request', async (status) => {
    const issuer = await startIssuer()
    issuer.failure = status
    const { find, states } = keysOf(issuer, { backoffMs: 60_000 })
    for (let attempt = 0; attempt < 5; attempt += 1) await expect(find('key-1')).rejects.toMatchObject(UNAVAILABLE)
    expect(issuer.requests).toBe(1)
    expect(states).toEqual([false])
  })

  test('is asked again later, and told of when it is back', async () => {
    const issuer = await startIssuer()
    issuer.failure = 503
    const { find, states } = keysOf(issuer, { backoffMs: 20 })
    await expect(find('key-1')).rejects.toMatchObject(UNAVAILABLE)
    issuer.failure = undefined
    await expect
      .poll(() =>
        find('key-1').then(
          () => true,
          () => false,
        ),
      )
      .toBe(true)
    expect(states).toEqual([false, true])
  })

  test('does not take back the keys it gave, until they are too old', async () => {
    const issuer = await startIssuer()
    const { find } = keysOf(issuer, { freshMs: 0, cooldownMs: 0, staleMs: 2000, backoffMs: 60_000 })
    await find('key-1')
    issuer.failure = 500
    await find('key-1')
    await expect.poll(() => issuer.requests).toBe(2)
    await expect(find('unknown')).rejects.toMatchObject(UNAVAILABLE)
    await expect
      .poll(() =>
        find('key-1').then(
          () => undefined,
          (error) => error,
        ),
      )
      .toMatchObject(UNAVAILABLE)
  })

  test('with what are no keys is no better', async () => {
    const { find } = keysOf({ ...(await startIssuer()), url: 'data:application/json,[]' })
    await expect(find('key-1')).rejects.toMatchObject(UNAVAILABLE)
  })
})

test('a fetch that brings other keys is reported, one that brings the same is not', async () => {
  const issuer = await startIssuer()
  let changes = 0
  const keys = new RemoteKeys({ url: issuer.url, onState: () => {}, onChanged: () => void (changes += 1) })
  await keys.reload()
  await keys.reload()
  expect([issuer.requests, changes]).toEqual([2, 0])
  await issuer.rotate()
  await keys.reload()
  expect(changes).toBe(1)
})

test('keys are kept fresh though every token is remembered', async () => {
  const issuer = await startIssuer()
  const keys = new RemoteKeys({ url: issuer.url, onState: () => {}, freshMs: 0, cooldownMs: 0 })
  await keys.reload()
  keys.keepFresh()
  await expect.poll(() => issuer.requests).toBe(2)
})
