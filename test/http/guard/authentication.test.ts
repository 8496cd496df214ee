import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { metric, startBridge } from '../../support/bridge.ts'
import { get, publish, send } from '../../support/http.ts'
import { openBatch } from '../../support/ndjson.ts'
import { makeToken, tokenFile } from '../../support/token-file.ts'

const document = parse(readFileSync(new URL('../../../openapi/openapi.yaml', import.meta.url), 'utf8')) as {
  paths: Record<string, Record<string, object>>
}
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.keys(methods).map((method) => [method.toUpperCase(), path] as const),
)

test('no operation but health does anything without credentials', async () => {
  const bridge = await startBridge({ ...tokenFile([makeToken('one', ['#'])]).settings, AUTH_COOKIE: true })
  expect(operations.length).toBeGreaterThan(9)
  for (const [method, path] of operations) {
    if (path === '/livez' || path === '/readyz') continue
    const { status, headers, body } = await send(bridge, method, path.replace('{id}', 'x'))
    expect([method, path, status, body.code]).toEqual([method, path, 401, 'unauthorized'])
    expect(headers.get('www-authenticate')).toBe('Bearer realm="causeway"')
    expect(headers.get('content-type')).toMatch(/^application\/problem\+json/)
  }
})

test.each([
  ['a token nobody gave out', 'Bearer cw_nobody'],
  ['another scheme', `Basic ${Buffer.from('user:pass').toString('base64')}`],
])('%s is refused, with the reason in the challenge', async (_what, authorization) => {
  const bridge = await startBridge(tokenFile([makeToken('one', ['#'])]).settings)
  const { status, headers, body } = await publish(bridge, { topic: 'a' }, { authorization })
  expect([status, body.code]).toEqual([401, 'unauthorized'])
  expect(headers.get('www-authenticate')).toBe(
    `Bearer realm="causeway", error="invalid_token", error_description="${body.detail}"`,
  )
})

test('a known token is let in, whatever the case of its scheme', async () => {
  const { token, entry } = makeToken('one', ['#'])
  const bridge = await startBridge(tokenFile([{ token, entry, headers: { authorization: '' } }]).settings)
  for (const scheme of ['Bearer', 'bearer']) {
    expect((await publish(bridge, { topic: 'a' }, { authorization: `${scheme} ${token}` })).status).toBe(200)
  }
})

test('a token of capitals is another token', async () => {
  const one = makeToken('one', ['#'])
  const bridge = await startBridge(tokenFile([one]).settings)
  expect(
    (await publish(bridge, { topic: 'a' }, { authorization: one.headers.authorization.toUpperCase() })).status,
  ).toBe(401)
})

test('a file without tokens lets nobody in', async () => {
  const bridge = await startBridge(tokenFile([]).settings)
  expect((await publish(bridge, { topic: 'a' }, makeToken('one', ['#']).headers)).status).toBe(401)
})

test('the body of a stranger is not read to its end', async () => {
  const bridge = await startBridge(tokenFile([]).settings)
  const { request, send: write } = await openBatch(bridge.url)
  const answered = once(request, 'response')
  write('{"topic":"a"}\n')
  const [{ statusCode, headers }] = (await answered) as [IncomingMessage]
  expect([statusCode, headers.connection]).toEqual([401, 'close'])
  await once(request, 'close')
  const small = await send(bridge, 'POST', '/publish?topic=a', {}, 'x')
  expect([small.status, small.headers.get('connection')]).toEqual([401, 'keep-alive'])
})

describe('without credentials', () => {
  test('the description of the API can be read', async () => {
    const bridge = await startBridge(tokenFile([]).settings)
    for (const path of ['/openapi.json', '/docs', '/docs/static/swagger-ui.css']) {
      expect([path, (await get(bridge, path)).status]).toEqual([path, 200])
    }
  })

  test('health can be read on any port, and metrics on the admin port alone', async () => {
    const one = makeToken('one', ['a'])
    const nobody = makeToken('nobody', [])
    const { settings } = tokenFile([one, nobody])
    const [open, shut] = [await startBridge({ ...settings, ADMIN_PORT: 0 }), await startBridge(settings)]
    for (const path of ['/livez', '/readyz', '/metrics']) {
      expect([path, (await send({ url: open.adminUrl }, 'GET', path)).status]).toEqual([path, 200])
      expect([path, (await get(shut, path)).status]).toEqual([path, path === '/metrics' ? 401 : 200])
      expect([path, (await get(shut, path, one.headers)).status]).toEqual([path, 200])
    }
    expect((await get(shut, '/metrics', nobody.headers)).status).toBe(403)
    expect(await metric(open, 'causeway_publish_in_flight')).toBe(0)
  })
})
