import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RateLimit } from '../../../src/http/guard/rate-limit.ts'
import { startBridge } from '../../support/bridge.ts'
import { get, publishRaw } from '../../support/http.ts'
import { makeToken, tokenFile } from '../../support/token-file.ts'

describe('a bucket', () => {
  test('never lets more through than its quota and what has flown in since', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50 }), fc.array(fc.nat(300), { maxLength: 200 }), (quota, waits) => {
        let now = 0
        const limit = new RateLimit(() => now)
        const passed: number[] = []
        for (const wait of waits) {
          now += wait
          const { isAllowed, remaining, resetS } = limit.take('a', quota)
          if (isAllowed) passed.push(now)
          expect(remaining).toBeGreaterThanOrEqual(0)
          expect(resetS).toBeGreaterThan(0)
        }
        for (const [first, from] of passed.entries()) {
          for (const [last, to] of passed.entries()) {
            if (last >= first) {
              expect(last - first + 1).toBeLessThanOrEqual(quota + ((to - from) / 1000) * quota + 1e-6)
            }
          }
        }
      }),
    )
  })

  test('lets the next one through when it said it would', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.array(fc.nat(300), { minLength: 1, maxLength: 100 }),
        (quota, waits) => {
          let now = 0
          const limit = new RateLimit(() => now)
          let last = limit.take('a', quota)
          for (const wait of waits) {
            now += wait
            last = limit.take('a', quota)
          }
          if (last.isAllowed) return
          now += last.resetS * 1000
          expect(limit.take('a', quota).isAllowed).toBe(true)
        },
      ),
    )
  })

  test('is one for each caller, of a bounded number', () => {
    const limit = new RateLimit(() => 0)
    expect([limit.take('a', 1), limit.take('a', 1), limit.take('b', 1)].map(({ isAllowed }) => isAllowed)).toEqual([
      true,
      false,
      true,
    ])
    for (let index = 0; index < 20_000; index += 1) limit.take(`${index}`, 1)
    expect(limit.size).toBe(10_000)
  })
})

test('a caller beyond its rate gets 429 and when to come back; others notice nothing', async () => {
  const [fast, slow] = [makeToken('fast', ['#']), makeToken('slow', ['#'], ['#'], { rate: 2 })]
  const bridge = await startBridge({ ...tokenFile([fast, slow]).settings, RATE_IDENTITY: 500 })
  const answers = await Promise.all(Array.from({ length: 8 }, () => publishRaw(bridge, 'topic=a', 'x', slow.headers)))
  const refused = answers.filter(({ status }) => status === 429)
  expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(2)
  expect(refused.length).toBeGreaterThan(0)
  expect(refused[0]!.body).toMatchObject({
    code: 'rate-limited',
    retryable: true,
    outcome: 'not-sent',
    detail: expect.stringContaining('the limit of its token'),
  })
  expect(refused[0]!.headers.get('retry-after')).toBe('1')
  expect(refused[0]!.headers.get('ratelimit')).toBe('"identity";r=0;t=1')
  const other = await publishRaw(bridge, 'topic=a', 'x', fast.headers)
  expect([other.status, other.headers.get('ratelimit-policy'), other.headers.get('ratelimit')]).toEqual([
    200,
    '"identity";q=500;w=1',
    '"identity";r=499;t=1',
  ])
  const metrics = await get(bridge, '/metrics', fast.headers)
  expect(metrics.body).toContain(`causeway_limited_total{limit="rate-identity"} ${refused.length}`)
})

test('an address beyond its rate is refused before its credentials are looked at', async () => {
  const known = makeToken('known', ['#'])
  const bridge = await startBridge({ ...tokenFile([known]).settings, RATE_ADDRESS: 3 })
  const answers = await Promise.all(
    Array.from({ length: 12 }, () => publishRaw(bridge, 'topic=a', 'x', { authorization: 'Bearer wrong' })),
  )
  const statuses = answers.map(({ status }) => status)
  expect(new Set(statuses)).toEqual(new Set([401, 429]))
  expect(statuses.filter((status) => status === 401).length).toBeLessThan(12)
  await expect
    .poll(async () => (await publishRaw(bridge, 'topic=a', 'x', known.headers)).headers.get('ratelimit-policy'))
    .toBe('"address";q=3;w=1, "identity";q=1000;w=1')
})

test('without a limit nothing is said of one', async () => {
  const bridge = await startBridge()
  const { status, headers } = await publishRaw(bridge, 'topic=a', 'x')
  expect([status, headers.has('ratelimit'), headers.has('ratelimit-policy')]).toEqual([200, false, false])
})
