import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { basic } from '../support/accounts.ts'
import { bearer, signed, startIssuer } from '../support/issuer.ts'
import { startScriptedBroker } from '../support/scripted-broker.ts'
import { createCrew, many, stopAfter } from './support/caller.ts'
import { MIB, sized } from './support/sizes.ts'
import { type Memory, startTarget, WIRES } from './support/target.ts'
import { startPolite, underAttack } from './support/under-attack.ts'

const SECRET = 'a secret of at least thirty-two characters'
const anyone = { auth: 'none' } as const

// The issuer withdraws a key that was stolen; tokens signed with it had been verified before.
test.each(['SIGHUP', 'new keys'])('item 12: a token of a withdrawn key is good no more after %s', async (after) => {
  const issuer = await startIssuer()
  const target = await startTarget({ ...anyone, settings: issuer.settings as Record<string, string> })
  const { ask } = createCrew(target, AbortSignal.timeout(60_000))
  const stolen = bearer(await issuer.sign({ sub: 'thief', exp: Math.floor(Date.now() / 1000) + 3600 }))
  const read = async (headers: Record<string, string>) => (await ask('GET', '/retained?topic=a', { headers })).status
  expect(await read(stolen)).toBe(404)
  await issuer.rotate()
  if (after === 'SIGHUP') target.kill('SIGHUP')
  else {
    // A token of the new key makes the bridge fetch the keys, once it may ask the issuer again.
    const fresh = bearer(await issuer.sign({ sub: 'owner' }))
    await expect.poll(() => read(fresh), { timeout: 40_000, interval: 1000 }).toBe(404)
  }
  await expect.poll(() => read(stolen), { timeout: 10_000, interval: 500 }).toBe(401)
})

// Every token is verified once and remembered: a caller with a login each second makes as many as it likes.
test.each(WIRES)('sibling of 12: very many long tokens, all of them good, over %s', async (wire) => {
  const settings = { AUTH: 'jwt', JWT_SECRET: SECRET, JWT_ISSUER: 'https://issuer.example', JWT_AUDIENCE: 'causeway' }
  const target = await startTarget({ ...anyone, wire, settings })
  const sign = (claims: object) =>
    signed({ exp: Math.floor(Date.now() / 1000) + 3600, ...claims })
      .setProtectedHeader({ alg: 'HS256' })
      .sign(Buffer.from(SECRET))
  const polite = bearer(await sign({ sub: 'polite' }))
  await underAttack(
    { ...target, polite: { ...target.polite, headers: polite } },
    async ({ ask, heldBelow, signal }) => {
      await many(sized(2000, 10_000), 20, signal, async (index) => {
        const rules = Array.from({ length: 130 }, (_, rule) => `${index}/${rule}/`.padEnd(50, 'r/'))
        const token = await sign({ sub: `${index}`, mqtt: { publish: rules, subscribe: [] } })
        const { status } = await ask('GET', '/sessions', { headers: bearer(token) })
        expect.soft(status).toBe(200)
      })
      await heldBelow(sized(32, 64) * MIB)
    },
    { comesBack: false },
  )
})

// Key ids that no key has: each made the bridge ask the issuer.
test('sibling of 12: tokens of unknown keys do not make the bridge ask the issuer each time', async () => {
  const issuer = await startIssuer()
  const target = await startTarget({ ...anyone, settings: issuer.settings as Record<string, string> })
  const polite = bearer(await issuer.sign({ sub: 'polite', exp: Math.floor(Date.now() / 1000) + 600 }))
  await underAttack({ ...target, polite: { ...target.polite, headers: polite } }, async ({ ask, signal }) => {
    await many(sized(500, 5000), 20, signal, async (index) => {
      const token = await issuer.sign({ sub: 'x' }, { kid: `none-${index}` })
      expect.soft((await ask('GET', '/sessions', { headers: bearer(token) })).status).toBe(401)
    })
    expect.soft(issuer.requests).toBeLessThan(10)
  })
})

// Five addresses with wrong accounts, and a broker that takes seconds to refuse one: all places were taken.
test.each(WIRES)('item 13: wrong accounts of five addresses do not keep a good caller out, over %s', async (wire) => {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect' || !packet.username?.startsWith('wrong')) return false
    peer.connect = packet
    setTimeout(() => {
      peer.send({ cmd: 'connack', sessionPresent: false, reasonCode: 0x86, returnCode: 4 })
      peer.close()
    }, 3000)
    return true
  })
  const target = await startTarget({ ...anyone, wire, brokerUrl: () => broker.url, settings: { AUTH: 'broker' } })
  await underAttack(
    { ...target, polite: { ...target.polite, headers: basic('polite', 'secret') } },
    async ({ ask, signal }) => {
      void many(sized(200, 2000), 200, signal, async (index) =>
        ask('POST', '/publish?topic=attack', {
          headers: basic(`wrong-${index}`, 'x'),
          body: 'x',
          from: `127.0.0.${2 + (index % 5)}`,
        }),
      )
      await delay(1000)
      for (let index = 0; index < 4; index += 1) {
        const { status } = await ask('POST', '/publish?topic=a', {
          headers: basic(`good-${index}`, 'x'),
          body: 'x',
          from: `127.0.0.${10 + index}`,
          timeoutMs: 3000,
        })
        expect.soft(status, 'a good caller who is new').toBe(200)
      }
    },
    { parts: ['publish', 'livez'] },
  )
})

test('sibling of 13: very many wrong accounts are not remembered without end', async () => {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect' || !packet.username?.startsWith('wrong')) return false
    peer.connect = packet
    peer.send({ cmd: 'connack', sessionPresent: false, reasonCode: 0x86, returnCode: 4 })
    peer.close()
    return true
  })
  const settings = { AUTH: 'broker', AUTH_REFUSED_MS: 3_600_000, AUTH_REFUSED_MAX: 1_000_000 }
  const target = await startTarget({ ...anyone, brokerUrl: () => broker.url, settings })
  await underAttack(
    { ...target, polite: { ...target.polite, headers: basic('polite', 'secret') } },
    async ({ ask, heldBelow, signal }) => {
      await many(sized(800, 10_000), 10, signal, (index) =>
        ask('GET', '/sessions', {
          headers: basic(`wrong-${index}`.padEnd(5000, 'u'), 'p'.repeat(5000)),
          from: `127.0.0.${2 + (index % 200)}`,
        }),
      )
      await heldBelow(16 * MIB)
    },
    { parts: ['publish', 'livez'], comesBack: false },
  )
})

// Who has no token must not be able to spend what callers with one need.
test.each(WIRES)('sibling of 3: a flood of requests without credentials, over %s', async (wire) => {
  const target = await startTarget({ wire })
  await underAttack(target, async ({ ask, signal }) => {
    const stop = stopAfter(sized(2000, 20_000), signal)
    await many(1_000_000, 30, stop, async (index) => {
      const { status } = await ask('POST', '/publish?topic=polite/live', {
        headers: { authorization: `Bearer ${index}` },
        body: 'x',
        from: '127.0.0.2',
        timeoutMs: 3000,
      })
      expect.soft([0, 401, 429]).toContain(status)
    })
  })
})

test('sibling of 19: a caller whose token has no rules reads no metrics', async () => {
  const target = await startTarget()
  const { makeToken } = await import('../support/token-file.ts')
  const nobody = makeToken('nobody', [])
  target.tokens.write([target.attacker, target.polite, nobody])
  target.kill('SIGHUP')
  const { ask } = createCrew(target, AbortSignal.timeout(20_000))
  const get = async (path: string) => (await ask('GET', path, { headers: nobody.headers })).status
  await expect.poll(() => get('/livez')).toBe(200)
  expect(await get('/metrics')).toBe(403)
})

// The measure of the others: with AUTH=none, one address is as good a caller as any.
test('sibling of 11: without authentication, one address does not take all from another', async () => {
  const target = await startTarget({ ...anyone, settings: { REQUESTS_MAX: 100 } })
  const { mqttClient } = await import('../support/mqtt-client.ts')
  const { startResponder } = await import('../support/responder.ts')
  const silent = await mqttClient(target.broker.url, { protocolVersion: 5 })
  await silent.subscribeAsync('attack/silent')
  await startResponder(target.broker.url, 'other/ask', (_payload, reply) => reply('here'))
  const polite = startPolite(target, {})
  const crew = createCrew(target, AbortSignal.timeout(30_000))
  const before: Memory = await target.memory()
  void many(150, 150, crew.signal, () =>
    crew.open('POST', '/request?topic=attack/silent&timeout=15000', { body: 'x', from: '127.0.0.2' }),
  )
  await delay(1000)
  const { status } = await crew.ask('POST', '/request?topic=other/ask', { body: 'x', timeoutMs: 3000 })
  expect.soft(status).toBe(200)
  crew.leave()
  const { failures } = await polite.stop()
  expect(failures).toEqual([])
  expect((await target.memory()).heapUsed).toBeLessThan(before.heapUsed * 1.5)
})
