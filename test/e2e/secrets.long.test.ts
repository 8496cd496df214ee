import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { basic, hasAccounts, startMosquittoWithAccounts } from '../support/accounts.ts'
import type { Settings } from '../support/bridge.ts'
import { type BridgeProcess, spawnBridge } from '../support/bridge-process.ts'
import { distFile } from '../support/dist.ts'
import { AUDIENCE, bearer, ISSUER, signed, startIssuer } from '../support/issuer.ts'
import { send } from '../support/http.ts'
import { openStream } from '../support/stream.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

/** A text that cannot be in a log by chance. */
const secret = (name: string) => `${name}-${randomBytes(16).toString('hex')}`
const PAYLOAD = secret('payload')

/**
 * Every request that carries credentials, with valid, wrong and no credentials. Returns the secrets that no log may
 * have.
 */
async function callEverything(
  bridge: BridgeProcess,
  headers: { authorization: string },
  wrong: { authorization: string },
): Promise<string[]> {
  const server = { url: await bridge.url }
  const json = { 'content-type': 'application/json' }
  const stream = await openStream(`${server.url}/subscribe?topic=a/%23`, headers)
  for (const each of [headers, wrong, {} as Record<string, string>]) {
    await send(server, 'POST', '/publish?topic=a/raw&retain=true', each, PAYLOAD)
    await send(
      server,
      'POST',
      '/publish',
      { ...each, ...json, 'idempotency-key': `"${PAYLOAD}"` },
      JSON.stringify({ topic: 'a/json', payload: { is: PAYLOAD }, qos: 2, retain: true }),
    )
    await send(server, 'POST', '/publish', { ...each, ...json }, `{"topic": "a", "payload": "${PAYLOAD}" ${PAYLOAD}`)
    await send(
      server,
      'POST',
      '/publish',
      { ...each, ...json },
      JSON.stringify({ topic: 'a/#', payload: PAYLOAD, unknown: PAYLOAD }),
    )
    await send(
      server,
      'POST',
      '/publish/batch',
      { ...each, 'content-type': 'application/x-ndjson' },
      `{"topic":"a","payload":"${PAYLOAD}"}\n${PAYLOAD}\n`,
    )
    await send(server, 'POST', '/request?topic=a/request&timeout=50', each, PAYLOAD)
    for (const path of ['/retained?topic=a/%23', '/none', '/sessions', '/metrics', '/subscribe?topic=%23%23']) {
      await send(server, 'GET', path, each)
    }
    await send(server, 'DELETE', '/retained?topic=a/raw', each)
  }
  const token = headers.authorization.split(' ')[1]!
  for (const path of ['/retained?topic=a', '/none?x=1', '/retained?topic=%23%23', '/%zz?x=1', '/publish?topic=a']) {
    await send(server, 'GET', `${path}&access_token=${token}`)
  }
  const { headers: answered } = await send(server, 'POST', '/cookie', headers)
  const cookie = answered.get('set-cookie')!.split(';')[0]!
  for (const each of [cookie, `${cookie}x`]) await send(server, 'GET', '/retained?topic=a/json', { cookie: each })
  await send(server, 'DELETE', '/cookie', { cookie, origin: 'https://foreign.example' })
  expect((await stream.next()).data.payload).toBe(PAYLOAD)
  return [PAYLOAD, token, wrong.authorization.split(' ')[1]!, cookie.split('=')[1]!]
}

/** Ends the bridge, and returns everything that it logged at level trace. */
async function logOf(bridge: BridgeProcess): Promise<string> {
  bridge.kill('SIGHUP')
  bridge.kill('SIGTERM')
  await bridge.exited
  const log = bridge.stdout() + bridge.stderr()
  expect(log).toContain('"level":20')
  return log
}

const trace: Settings = { LOG_LEVEL: 'trace', AUTH_COOKIE: true, AUTH_QUERY_TOKEN: true }

/** The secrets that occur in a text, as they are or in base64. */
const found = (text: string, secrets: string[]) =>
  secrets.filter((each) =>
    [each, Buffer.from(each).toString('base64'), Buffer.from(each).toString('base64url')].some((form) =>
      text.includes(form.replace(/=+$/, '')),
    ),
  )

test('no token, cookie or payload is in the log of a run with tokens', async () => {
  const one = makeToken('one', ['#'])
  const bridge = spawnBridge({ ...trace, ...tokenFile([one]).settings })
  const secrets = await callEverything(bridge, one.headers, makeToken('nobody', []).headers)
  expect(found(await logOf(bridge), [...secrets, one.entry.sha256])).toEqual([])
})

test('no token, cookie, payload or secret is in the log of a run with JSON Web Tokens', async () => {
  const jwtSecret = secret('secret')
  const bridge = spawnBridge({
    ...trace,
    AUTH: 'jwt',
    JWT_SECRET: jwtSecret,
    JWT_ISSUER: ISSUER,
    JWT_AUDIENCE: AUDIENCE,
  })
  const sign = async (key: string) =>
    bearer(await signed({}).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(key)))
  const secrets = await callEverything(bridge, await sign(jwtSecret), await sign(secret('other')))
  expect(found(await logOf(bridge), [...secrets, jwtSecret])).toEqual([])
})

test('no token is in the log when its issuer fails', async () => {
  const issuer = await startIssuer()
  issuer.failure = 500
  const bridge = spawnBridge({ ...issuer.settings, LOG_LEVEL: 'trace' })
  const token = await issuer.sign({})
  expect((await send({ url: await bridge.url }, 'GET', '/retained?topic=a', bearer(token))).status).toBe(503)
  const log = await logOf(bridge)
  expect(log).toContain('cannot be fetched')
  expect(found(log, [token])).toEqual([])
})

test.runIf(hasAccounts)(
  'no password, cookie or payload is in the log of a run with the broker’s accounts, the loss of the broker included',
  async () => {
    const [good, bad, own] = [secret('good'), secret('bad'), secret('own')]
    const broker = await startMosquittoWithAccounts({ ann: { password: good }, bridge: { password: own } })
    const bridge = spawnBridge({
      ...trace,
      AUTH: 'broker',
      MQTT_URL: broker.url,
      MQTT_USERNAME: 'bridge',
      MQTT_PASSWORD: own,
      STATUS_TOPIC: 'status',
    })
    const headers = basic('ann', good)
    const secrets = await callEverything(bridge, headers, basic('ann', bad))
    await broker.kill()
    await send({ url: await bridge.url }, 'POST', '/publish?topic=a', headers, PAYLOAD)
    expect(found(await logOf(bridge), [...secrets, good, bad, own])).toEqual([])
  },
)

test('the report of an invalid configuration has none of its secrets', async () => {
  const hidden = [secret('one'), secret('two'), secret('three')]
  const main = distFile('main.js')
  const env = {
    CAUSEWAY_MQTT_URL: `mqttx://user:${hidden[0]}@broker`,
    CAUSEWAY_MQTT_PASSWORD: hidden[1]!,
    CAUSEWAY_JWT_SECRET: hidden[2]!,
    CAUSEWAY_JWT_JWKS_URL: `https://user:${hidden[0]}@issuer.example`,
  }
  expect(() => execFileSync(process.execPath, [main], { env, stdio: 'pipe' })).toThrow(
    expect.objectContaining({
      stderr: expect.toSatisfy(
        (stderr: Buffer) => stderr.includes('CAUSEWAY_JWT_JWKS_URL') && found(stderr.toString(), hidden).length === 0,
      ),
    }),
  )
})
