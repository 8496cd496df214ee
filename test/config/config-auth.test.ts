import { describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/config/config.ts'
import { faultsIn } from '../support/config-faults.ts'

const load = (settings: Record<string, string>) =>
  loadConfig(Object.fromEntries(Object.entries(settings).map(([name, value]) => [`CAUSEWAY_${name}`, value])), () =>
    'x'.repeat(32),
  )

const faultsOf = (settings: Record<string, string>) => faultsIn(() => load(settings))

const JWT = { AUTH: 'jwt', JWT_ISSUER: 'https://issuer.example', JWT_AUDIENCE: 'causeway' }
const KEYS = { ...JWT, JWT_JWKS_URL: 'https://issuer.example/keys' }
const SECRET = { ...JWT, JWT_SECRET: 'x'.repeat(32) }

test.each([
  [
    { AUTH: 'token', AUTH_TOKENS_FILE: '/tokens.json' },
    { auth: 'token', authTokensFile: '/tokens.json' },
  ],
  [
    { ...KEYS, JWT_ALGORITHMS: 'ES256,EdDSA' },
    { jwtJwksUrl: 'https://issuer.example/keys', jwtAlgorithms: 'ES256,EdDSA', jwtClaim: 'mqtt' },
  ],
  [
    { ...SECRET, JWT_ALGORITHMS: 'HS512', JWT_CLAIM: 'acl' },
    { jwtAlgorithms: 'HS512', jwtClaim: 'acl' },
  ],
  [{ ...JWT, JWT_SECRET_FILE: '/secret' }, { jwtSecret: 'x'.repeat(32) }],
  [
    { ...SECRET, JWT_PUBLISH: 'a/${sub}', JWT_SUBSCRIBE: '${sub}/#' },
    { jwtPublish: 'a/${sub}', jwtSubscribe: '${sub}/#' },
  ],
  [
    {
      AUTH: 'broker',
      MQTT_URL: 'mqtt://broker',
      LINK_MAX: '5',
      LINK_IDLE_MS: '7',
      AUTH_REFUSED_MS: '8',
      AUTH_REFUSED_MAX: '9',
      AUTH_BEARER_USERNAME: 'jwt',
    },
    { linkMax: 5, linkIdleMs: 7, authRefusedMs: 8, authRefusedMax: 9, authBearerUsername: 'jwt' },
  ],
  [
    {
      ...KEYS,
      AUTH_COOKIE: 'true',
      AUTH_QUERY_TOKEN: 'true',
      CORS_ORIGINS: 'https://app.example,http://localhost:3000',
    },
    { authCookie: true, authQueryToken: true, corsOrigins: 'https://app.example,http://localhost:3000' },
  ],
])('%j is read', (settings, expected) => {
  expect(load(settings)).toMatchObject(expected)
})

test.each<[Record<string, string>, string]>([
  [{ AUTH: 'token' }, 'CAUSEWAY_AUTH: expected CAUSEWAY_AUTH_TOKENS_FILE together with token, got no such setting'],
  [
    { AUTH_TOKENS_FILE: '/tokens.json' },
    'CAUSEWAY_AUTH_TOKENS_FILE: expected only with CAUSEWAY_AUTH=token, got it with CAUSEWAY_AUTH=none',
  ],
  [{ ...KEYS, JWT_ISSUER: '' }, 'CAUSEWAY_AUTH: expected CAUSEWAY_JWT_ISSUER together with jwt, got no such setting'],
  [
    { ...KEYS, JWT_AUDIENCE: '' },
    'CAUSEWAY_AUTH: expected CAUSEWAY_JWT_AUDIENCE together with jwt, got no such setting',
  ],
  [JWT, 'CAUSEWAY_AUTH: expected one of CAUSEWAY_JWT_JWKS_URL and CAUSEWAY_JWT_SECRET together with jwt, got none'],
  [
    { ...KEYS, ...SECRET },
    'CAUSEWAY_AUTH: expected one of CAUSEWAY_JWT_JWKS_URL and CAUSEWAY_JWT_SECRET together with jwt, got both',
  ],
  [
    { ...KEYS, JWT_ALGORITHMS: 'RS256,HS256' },
    'CAUSEWAY_JWT_ALGORITHMS: expected only algorithms that use keys, got "HS256"',
  ],
  [
    { ...SECRET, JWT_ALGORITHMS: 'HS256,ES256' },
    'CAUSEWAY_JWT_ALGORITHMS: expected only algorithms that use a secret, got "ES256"',
  ],
  [
    { ...KEYS, JWT_ALGORITHMS: 'none' },
    'CAUSEWAY_JWT_ALGORITHMS: expected some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, ' +
      'EdDSA, HS256, HS384, HS512, separated by commas, got "none"',
  ],
  ...['file:///keys', 'https://', 'https://user:hunter2@issuer.example/keys'].map(
    (url): [Record<string, string>, string] => [
      { ...KEYS, JWT_JWKS_URL: url },
      'CAUSEWAY_JWT_JWKS_URL: expected an https:// or http:// URL without credentials, got another value, not ' +
        'shown as it may contain a secret',
    ],
  ),
  [
    { ...JWT, JWT_SECRET: 'short' },
    'CAUSEWAY_JWT_SECRET: expected a text of at least 32 characters, got another value, not shown as it may ' +
      'contain a secret',
  ],
  [
    { ...KEYS, JWT_CLAIM: 'acl', JWT_PUBLISH: 'a' },
    'CAUSEWAY_JWT_CLAIM: expected without CAUSEWAY_JWT_PUBLISH and CAUSEWAY_JWT_SUBSCRIBE, which replace it, got both',
  ],
  [
    { AUTH: 'broker' },
    'CAUSEWAY_AUTH: expected broker only with a broker that authenticates, got CAUSEWAY_MQTT_URL=embedded:, ' +
      'which lets everyone in',
  ],
  [{ LINK_MAX: '5' }, 'CAUSEWAY_LINK_MAX: expected only with CAUSEWAY_AUTH=broker, got it with CAUSEWAY_AUTH=none'],
  [{ AUTH_COOKIE: 'true' }, 'CAUSEWAY_AUTH_COOKIE: expected only with authentication, got it with CAUSEWAY_AUTH=none'],
  [
    { AUTH_QUERY_TOKEN: 'true' },
    'CAUSEWAY_AUTH_QUERY_TOKEN: expected only with authentication, got it with CAUSEWAY_AUTH=none',
  ],
  ...[
    '*',
    'null',
    'app.example',
    'https://app.example/',
    'https://app.example, https://b.example',
    'https://APP.example',
  ].map((origins): [Record<string, string>, string] => [
    { CORS_ORIGINS: origins },
    'CAUSEWAY_CORS_ORIGINS: expected origins like https://app.example, separated by commas, got ' +
      JSON.stringify(origins),
  ]),
])('%j is refused', (settings, fault) => {
  expect(faultsOf(settings)).toEqual([fault])
})

describe('off loopback', () => {
  test('with authentication needs no further word', () => {
    expect(load({ ...KEYS, HTTP_HOST: '0.0.0.0' }).httpHost).toBe('0.0.0.0')
  })
})
