import { expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { get } from '../../support/http.ts'
import { pushFile, startEndpoint, untilPush } from '../../support/push-endpoint.ts'
import { makeToken, tokenFile } from '../../support/token-file.ts'

test('GET /push shows each target without what may be secret', async () => {
  const endpoint = await startEndpoint()
  const { path } = pushFile([
    { name: 'hook', topics: ['a', 'b/#'], url: `${endpoint.url}?token=private`, headers: { authorization: 'private' } },
  ])
  const bridge = await startBridge({ PUSH_FILE: path })
  const shown = await untilPush(bridge)
  expect(shown).toEqual({
    name: 'hook',
    url: endpoint.url,
    topics: ['a', 'b/#'],
    state: 'active',
    since: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
    waiting: 0,
  })
  expect(JSON.stringify(bridge.logs)).not.toContain('private')
})

test('without a push file it is empty, and the admin port has it in place of the public one', async () => {
  const bridge = await startBridge({ ADMIN_PORT: 0 })
  expect(await (await fetch(`${bridge.adminUrl}/push`)).json()).toEqual([])
  expect((await get(bridge, '/push')).status).toBe(404)
})

test('it needs a caller with at least one rule, as the metrics do', async () => {
  const [reader, nobody] = [makeToken('reader', [], ['a']), makeToken('nobody', [])]
  const bridge = await startBridge(tokenFile([reader, nobody]).settings)
  const status = async (headers?: Record<string, string>) => (await get(bridge, '/push', headers)).status
  expect([await status(), await status(nobody.headers), await status(reader.headers)]).toEqual([401, 403, 200])
})
