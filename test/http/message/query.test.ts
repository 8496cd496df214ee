import { expect, test } from 'vitest'
import { createQueryParser, TOO_MANY_PARAMETERS } from '../../../src/http/message/query.ts'
import { startBridge } from '../../support/bridge.ts'
import { send } from '../../support/http.ts'
import { ask, openSession } from '../../support/http2.ts'
import { startSecureBridge } from '../../support/secure-bridge.ts'

test.each<[string, Record<string, string | string[]>]>([
  ['', {}],
  ['a=1', { a: '1' }],
  ['a', { a: '' }],
  ['a=b=c', { a: 'b=c' }],
  ['&&a=1&&b=2&', { a: '1', b: '2' }],
  ['topic=a/%2B/%23&topic=+', { topic: ['a/+/#', '+'] }],
  ['a=1&b=x&a=2&a=3', { a: ['1', '2', '3'], b: 'x' }],
  ['__proto__=1', JSON.parse('{"__proto__":"1"}')],
  ['a=%ff', { a: '%ff\ud800' }],
])('the parameters of ?%s', (query, expected) => {
  expect({ ...createQueryParser(10)(query) }).toEqual({ ...expected })
})

test('a query of many parameters is not taken apart', () => {
  const parse = createQueryParser(3)
  expect(parse('a=1&a=2&&&&&b=3')).not.toBe(TOO_MANY_PARAMETERS)
  expect(parse('a=1&a=2&b=3&c')).toBe(TOO_MANY_PARAMETERS)
  expect(parse('a&'.repeat(1_000_000))).toBe(TOO_MANY_PARAMETERS)
})

test('a query with too many parameters is refused at every address that has a route, over HTTP/1.1 and HTTP/2', async () => {
  const bridge = await startSecureBridge()
  const session = await openSession(bridge.url, bridge.ca)
  const plain = await startBridge()
  const query = 'a&'.repeat(500)
  for (const [method, path] of [
    ['POST', '/publish'],
    ['GET', '/subscribe'],
    ['GET', '/docs'],
  ] as const) {
    const overHttp2 = await ask(session, method, `${path}?${query}`)
    expect([path, overHttp2.status, overHttp2.body.code]).toEqual([path, 400, 'invalid-request'])
    expect([path, (await send(plain, method, `${path}?${query}`)).status]).toEqual([path, 400])
  }
})
