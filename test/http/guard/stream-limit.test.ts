import { expect, test } from 'vitest'
import { StreamLimit } from '../../../src/http/guard/stream-limit.ts'
import { ANYONE } from '../../../src/auth/identity.ts'
import { startBridge } from '../../support/bridge.ts'
import { openStream } from '../../support/stream.ts'
import { makeToken, tokenFile } from '../../support/token-file.ts'

test('a caller beyond its streams gets 429, until one of them ends; others notice nothing', async () => {
  const [one, other] = [makeToken('one', ['#'], ['#'], { streams: 2 }), makeToken('other', ['#'])]
  const bridge = await startBridge({ ...tokenFile([one, other]).settings, STREAM_MAX_IDENTITY: 1 })
  const url = `${bridge.url}/subscribe?topic=a`
  const streams = [await openStream(url, one.headers), await openStream(url, one.headers)]
  const refused = await openStream(url, one.headers)
  await refused.ended
  expect([refused.status, JSON.parse(refused.text()).code, refused.headers['retry-after']]).toEqual([
    429,
    'too-many-own-streams',
    '5',
  ])
  expect((await openStream(url, other.headers)).status).toBe(200)
  expect((await openStream(url, other.headers)).status).toBe(429)
  streams[0]!.close()
  await expect.poll(async () => (await openStream(url, one.headers)).status).toBe(200)
})

test('streams of sessions, and streams that never begin, give their seats back', async () => {
  const token = makeToken('one', ['a'], ['a'])
  const bridge = await startBridge({ ...tokenFile([token]).settings, STREAM_MAX_IDENTITY: 1 })
  for (const query of ['topic=b', 'topic=%23', 'topic=a&session=s&qos=2']) {
    expect((await openStream(`${bridge.url}/subscribe?${query}`, token.headers)).status).toBeGreaterThanOrEqual(400)
  }
  const session = await openStream(`${bridge.url}/subscribe?topic=a&session=s`, token.headers)
  expect(session.status).toBe(200)
  expect((await openStream(`${bridge.url}/subscribe?topic=a`, token.headers)).status).toBe(429)
  session.close()
  await expect.poll(async () => (await openStream(`${bridge.url}/subscribe?topic=a`, token.headers)).status).toBe(200)
})

test('an address beyond its streams gets 429', async () => {
  const bridge = await startBridge({ STREAM_MAX_ADDRESS: 1 })
  expect((await openStream(`${bridge.url}/subscribe?topic=a`)).status).toBe(200)
  expect((await openStream(`${bridge.url}/subscribe?topic=a`)).status).toBe(429)
})

test('IPv6 addresses of one /64 share their seats', () => {
  const seats = new StreamLimit({ max: 9, perIdentity: 0, perAddress: 1, onRefused: () => {} })
  const giveBack = seats.take(ANYONE, '2001:db8::1')
  expect(() => seats.take(ANYONE, '2001:db8::2')).toThrow('1 streams of this address')
  seats.take(ANYONE, '2001:db8:0:1::1')
  giveBack()
  seats.take(ANYONE, '2001:db8::2')
})
