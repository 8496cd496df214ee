import { pino } from 'pino'
import { expect, test } from 'vitest'
import { createAuthenticator } from '../../src/auth/create.ts'
import { ANYONE } from '../../src/auth/identity.ts'
import { type Config, loadConfig } from '../../src/config/config.ts'
import { MemoryAccount } from '../../src/memory/account.ts'

const memory = new MemoryAccount({ totalBytes: 1_000_000 })
const logger = pino({ level: 'silent' })
const create = (env: Record<string, string>, changes: object = {}, readFile: (path: string) => string = String) =>
  createAuthenticator({ config: { ...loadConfig(env, readFile), ...changes } as Config, readFile, logger, memory })

test('none is the only mode that lets in a caller without credentials', () => {
  expect(create({ CAUSEWAY_AUTH: 'none' }).authenticate(undefined, '')).toEqual({ identity: ANYONE })
})

test('token refuses a caller without credentials', () => {
  const authenticator = create({ CAUSEWAY_AUTH: 'token', CAUSEWAY_AUTH_TOKENS_FILE: '[]' })
  expect(() => authenticator.authenticate(undefined, '')).toThrow('Credentials are required')
})

test('jwt refuses a caller without credentials', async () => {
  const authenticator = create({
    CAUSEWAY_AUTH: 'jwt',
    CAUSEWAY_JWT_SECRET: 'a secret of thirty-two characters at least',
    CAUSEWAY_JWT_ISSUER: 'issuer',
    CAUSEWAY_JWT_AUDIENCE: 'audience',
  })
  await expect(authenticator.authenticate(undefined, '')).rejects.toThrow('Credentials are required')
})

// Callers are admitted by their links then. If this authenticator were used by mistake, it must not admit them.
test('broker lets nobody in, with or without credentials', () => {
  const authenticator = create({ CAUSEWAY_AUTH: 'broker', CAUSEWAY_MQTT_URL: 'mqtt://127.0.0.1:1' })
  for (const credentials of [undefined, { scheme: 'basic', username: 'a', password: 'b' } as const]) {
    expect(() => authenticator.authenticate(credentials, '')).toThrow('authenticated by their links')
  }
})

test.each(['saml', '', undefined, 'toString'])('the unknown mode %j starts nothing and lets nobody in', (auth) => {
  expect(() => create({}, { auth })).toThrow(`unknown authentication mode ${JSON.stringify(auth)}`)
})
