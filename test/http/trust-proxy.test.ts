import { expect, test } from 'vitest'
import { startBridge } from '../support/bridge.ts'
import { publishRaw } from '../support/http.ts'

const from = (address: string) => ({ 'x-forwarded-for': address })

test('X-Forwarded-For of a proxy that is trusted says who calls', async () => {
  const bridge = await startBridge({ RATE_ADDRESS: 1, TRUST_PROXY: '10.0.0.0/8,127.0.0.1' })
  const answers = await Promise.all(
    ['192.0.2.1', '192.0.2.2', '192.0.2.2', '192.0.2.1, 10.1.2.3'].map((address) =>
      publishRaw(bridge, 'topic=a', 'x', from(address)),
    ),
  )
  expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 200, 429, 429])
})

test('what a caller adds in front of it does not count', async () => {
  const bridge = await startBridge({ RATE_ADDRESS: 1, TRUST_PROXY: '127.0.0.1' })
  const answers = await Promise.all(
    ['198.51.100.1, 192.0.2.1', '198.51.100.2, 192.0.2.1'].map((address) =>
      publishRaw(bridge, 'topic=a', 'x', from(address)),
    ),
  )
  expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 429])
})

test('without TRUST_PROXY nobody is believed', async () => {
  const bridge = await startBridge({ RATE_ADDRESS: 1 })
  const answers = await Promise.all(
    ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map((address) => publishRaw(bridge, 'topic=a', 'x', from(address))),
  )
  expect(answers.filter(({ status }) => status === 429).length).toBeGreaterThan(0)
})
