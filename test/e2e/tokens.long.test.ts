import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { type BridgeProcess, spawnBridge } from '../support/bridge-process.ts'
import { distFile } from '../support/dist.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

async function publishes(bridge: BridgeProcess, headers: Record<string, string>): Promise<number> {
  return (await fetch(`${await bridge.url}/publish?topic=a`, { method: 'POST', body: 'x', headers })).status
}

const logged = (bridge: BridgeProcess, level: number) =>
  bridge
    .stdout()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter((line) => line.level === level)

test('SIGHUP reads the tokens again, and keeps the old ones when the file is invalid', async () => {
  const [one, two] = [makeToken('one', ['#']), makeToken('two', ['#'])]
  const file = tokenFile([one])
  const bridge = spawnBridge(file.settings)
  expect([await publishes(bridge, one.headers), await publishes(bridge, two.headers)]).toEqual([200, 401])

  file.write([two])
  bridge.kill('SIGHUP')
  await expect.poll(() => publishes(bridge, two.headers)).toBe(200)
  expect(await publishes(bridge, one.headers)).toBe(401)

  file.writeText('[{"name": "half a f')
  bridge.kill('SIGHUP')
  await expect
    .poll(() => logged(bridge, 50))
    .toMatchObject([
      {
        msg: `tokens not reloaded, the current ones stay in use: CAUSEWAY_AUTH_TOKENS_FILE ${file.path}: expected JSON`,
      },
    ])
  expect([await publishes(bridge, one.headers), await publishes(bridge, two.headers)]).toEqual([401, 200])
})

test('SIGHUP does not end a bridge without tokens', async () => {
  const bridge = spawnBridge()
  const url = await bridge.url
  bridge.kill('SIGHUP')
  expect((await fetch(`${url}/livez`)).status).toBe(200)
})

test.each([
  ['does not exist', undefined, 'expected a readable file (ENOENT)'],
  ['is invalid', '{}', 'expected an array of tokens'],
])('a file that %s keeps the bridge from starting', async (_what, text, fault) => {
  const file = tokenFile([])
  if (text !== undefined) file.writeText(text)
  const path = text === undefined ? `${file.path}.none` : file.path
  const bridge = spawnBridge({ AUTH: 'token', AUTH_TOKENS_FILE: path })
  expect(await bridge.exited).toEqual({ code: 1, signal: null })
  expect(bridge.stdout()).toContain(`cannot start: CAUSEWAY_AUTH_TOKENS_FILE ${path}: ${fault}`)
})

test.each([
  ['token', () => tokenFile([]).settings, "-H 'Authorization: Bearer TOKEN'"],
  ['broker', () => ({ AUTH: 'broker', MQTT_URL: 'mqtt://127.0.0.1:1' }), '-u USER:PASSWORD'],
])('with AUTH=%s the commands of the first log lines have credentials', async (_auth, settings, credentials) => {
  const bridge = spawnBridge(settings(), { waitForBroker: false })
  await bridge.url
  for (const name of ['publish', 'subscribe']) {
    expect(bridge.stdout()).toMatch(new RegExp(`${name}: +curl ${credentials} `))
  }
})

test('the command prints a token, and an entry for the file with which the token is accepted', async () => {
  const [token, line] = execFileSync(process.execPath, [distFile('main.js'), 'token', 'one'], { encoding: 'utf8' })
    .trim()
    .split('\n')
  const entry = JSON.parse(line!)
  expect(entry).toMatchObject({ name: 'one', publish: [], subscribe: [] })
  const headers = { authorization: `Bearer ${token}` }
  const bridge = spawnBridge(tokenFile([{ token: token!, headers, entry: { ...entry, publish: ['a'] } }]).settings)
  expect(await publishes(bridge, headers)).toBe(200)
})
