import { expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { get } from '../../support/http.ts'
import { openStream } from '../../support/stream.ts'
import { makeToken, tokenFile } from '../../support/token-file.ts'

const one = makeToken('one', ['#'])
const query = (token: string) => `access_token=${token}`

test('a token in the URL is taken only where that is switched on', async () => {
  const { settings } = tokenFile([one])
  const [on, off] = [await startBridge({ ...settings, AUTH_QUERY_TOKEN: true }), await startBridge(settings)]
  expect((await get(off, `/retained?topic=a&${query(one.token)}`)).status).toBe(401)
  expect((await get(off, `/retained?topic=a&${query(one.token)}`, one.headers)).status).toBe(400)
  const { status, headers } = await get(on, `/retained?topic=a&${query(one.token)}`)
  expect([status, headers.get('cache-control')]).toEqual([404, 'no-store'])
  expect((await openStream(`${on.url}/subscribe?topic=a&${query(one.token)}`)).status).toBe(200)
  expect((await get(on, `/retained?topic=a&${query('cw_nobody')}`)).status).toBe(401)
  for (const token of ['', 'a%20b', '%FF']) {
    expect([token, (await get(on, `/retained?topic=a&${query(token)}`)).status]).toEqual([token, 401])
  }
})

test('two tokens are one too many', async () => {
  const bridge = await startBridge({ ...tokenFile([one]).settings, AUTH_QUERY_TOKEN: true })
  expect((await get(bridge, `/retained?topic=a&${query(one.token)}`, one.headers)).body).toMatchObject({
    status: 400,
    code: 'invalid-request',
  })
  expect((await get(bridge, `/retained?topic=a&${query(one.token)}&${query(one.token)}`)).status).toBe(400)
})

test('no answer says a token again', async () => {
  const bridge = await startBridge({ ...tokenFile([one]).settings, AUTH_QUERY_TOKEN: true })
  for (const path of ['/none?', '/retained?', '/retained?topic=a%23&', '/subscribe?topic=a&bad=1&']) {
    expect(JSON.stringify((await get(bridge, path + query(one.token))).body)).not.toContain(one.token)
  }
})
