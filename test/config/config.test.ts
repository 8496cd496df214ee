import { describe, expect, test } from 'vitest'
import { ConfigSchema, loadConfig } from '../../src/config/config.ts'
import { faultsIn } from '../support/config-faults.ts'

const files: Record<string, string> = { '/run/password': 'from a file\n', '/run/ca.pem': 'PEM\n' }

function readFile(path: string): string {
  const text = files[path]
  if (text === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
  return text
}

const load = (env: Record<string, string>) => loadConfig(env, readFile)

test('settings have only the keywords of JSON Schema that are checked', () => {
  const schemas = Object.values<object>(ConfigSchema.properties) as Record<string, unknown>[]
  expect(new Set(schemas.flatMap((schema) => Object.keys(schema)))).toEqual(
    new Set(['type', 'default', 'enum', 'minimum', 'maximum', 'minLength', 'format', 'secret', 'description']),
  )
  expect(new Set(schemas.map((schema) => schema['type'] ?? typeof schema['enum']))).toEqual(
    new Set(['string', 'integer', 'boolean', 'object']),
  )
  for (const schema of schemas.filter(({ type }) => type === 'integer')) {
    expect(schema).toMatchObject({ minimum: expect.any(Number), maximum: expect.any(Number) })
  }
})

const faultsOf = (env: Record<string, string>) => faultsIn(() => load(env))

test.each([
  ['CAUSEWAY_MQTT_URL', 'mqtts://broker.example:8883', 'mqttUrl', 'mqtts://broker.example:8883'],
  ['CAUSEWAY_MQTT_USERNAME', 'bridge', 'mqttUsername', 'bridge'],
  ['CAUSEWAY_MQTT_CLIENT_ID', 'bridge-1', 'mqttClientId', 'bridge-1'],
  ['CAUSEWAY_MQTT_PROTOCOL', '3.1.1', 'mqttProtocol', '3.1.1'],
  ['CAUSEWAY_MQTT_SHARED_SUBSCRIPTIONS', 'true', 'mqttSharedSubscriptions', 'true'],
  ['CAUSEWAY_MQTT_KEEPALIVE_S', '5', 'mqttKeepaliveS', 5],
  ['CAUSEWAY_EMBEDDED_PORT', '1884', 'embeddedPort', 1884],
  ['CAUSEWAY_STATUS_TOPIC', 'bridges/1', 'statusTopic', 'bridges/1'],
  ['CAUSEWAY_ALLOW_DOLLAR_TOPICS', 'true', 'allowDollarTopics', true],
  ['CAUSEWAY_HTTP_HOST', '127.0.0.2', 'httpHost', '127.0.0.2'],
  ['CAUSEWAY_HTTP_PORT', '9000', 'httpPort', 9000],
  ['CAUSEWAY_ADMIN_PORT', '9001', 'adminPort', 9001],
  ['CAUSEWAY_PUBLISH_CONNECTIONS', '3', 'publishConnections', 3],
  ['CAUSEWAY_PUBLISH_TIMEOUT_MS', '250', 'publishTimeoutMs', 250],
  ['CAUSEWAY_PUBLISH_WAIT_MS', '100', 'publishWaitMs', 100],
  ['CAUSEWAY_STREAM_LOG_BYTES', '2048', 'streamLogBytes', 2048],
  ['CAUSEWAY_STREAM_LINGER_MS', '0', 'streamLingerMs', 0],
  ['CAUSEWAY_LOG_LEVEL', 'debug', 'logLevel', 'debug'],
  ['CAUSEWAY_WORKERS', 'auto', 'workers', 'auto', { CAUSEWAY_MQTT_URL: 'mqtt://broker' }],
  ['CAUSEWAY_MQTT_CA_FILE', '/run/ca.pem', 'mqttCaFile', '/run/ca.pem', { CAUSEWAY_MQTT_URL: 'mqtts://broker' }],
])('%s=%s is read', (name, value, key, expected, others: object = {}) => {
  expect(load({ [name]: value, ...others })).toMatchObject({ [key]: expected })
})

test('an empty value is none, and other names are nobody’s business', () => {
  expect(load({ CAUSEWAY_HTTP_PORT: '', HTTP_PORT: 'x' }).httpPort).toBe(8080)
})

test('every fault is reported at once, with what was expected and what was got', () => {
  expect(
    faultsOf({
      CAUSEWAY_HTTP_PORT: '70000',
      CAUSEWAY_STREAM_MAX: 'many',
      CAUSEWAY_LOG_LEVEL: 'loud',
      CAUSEWAY_HTTP_PROT: '1',
      CAUSEWAY_STATUS_TOPIC: 'a/#',
      CAUSEWAY_AUTH: 'magic',
    }),
  ).toEqual([
    'CAUSEWAY_HTTP_PROT: expected the name of a setting (see causeway --help), got an unknown one; ' +
      'did you mean CAUSEWAY_HTTP_PORT?',
    'CAUSEWAY_STATUS_TOPIC: expected a topic without wildcards, control characters or leading $, got "a/#"',
    'CAUSEWAY_HTTP_PORT: expected an integer from 0 to 65535, got "70000"',
    'CAUSEWAY_STREAM_MAX: expected an integer from 1 to 1000000, got "many"',
    'CAUSEWAY_AUTH: expected one of none, token, jwt, broker, got "magic"',
    'CAUSEWAY_LOG_LEVEL: expected one of fatal, error, warn, info, debug, trace, silent, got "loud"',
  ])
})

test.each([
  ['CAUSEWAY_PORT', '; did you mean CAUSEWAY_EMBEDDED_PORT, CAUSEWAY_HTTP_PORT or CAUSEWAY_ADMIN_PORT?'],
  ['CAUSEWAY_MQTT_BROKER_URL', '; did you mean CAUSEWAY_MQTT_URL?'],
  ['CAUSEWAY_COLOUR', ''],
  ['CAUSEWAY_', ''],
])('%s is no setting, and the ones that have its words are named', (name, hint) => {
  expect(faultsOf({ [name]: '1' })).toEqual([
    `${name}: expected the name of a setting (see causeway --help), got an unknown one${hint}`,
  ])
})

test.each(['0', '65', '1.5', 'many'])('%j workers are none', (value) => {
  expect(faultsOf({ CAUSEWAY_WORKERS: value, CAUSEWAY_MQTT_URL: 'mqtt://broker' })).toEqual([
    `CAUSEWAY_WORKERS: expected a number of processes from 1 to 64, or auto, got "${value}"`,
  ])
})

test('workers do not go with the embedded broker', () => {
  expect(faultsOf({ CAUSEWAY_WORKERS: '2' })).toEqual([
    'CAUSEWAY_WORKERS: expected CAUSEWAY_MQTT_URL with it, as each worker would have an embedded broker of its own, ' +
      'got only one of them',
  ])
})

test.each(['1.5', '0x10', '1e3', ' 80', '80 ', 'true'])('%j is no integer', (value) => {
  expect(faultsOf({ CAUSEWAY_HTTP_PORT: value })).toEqual([
    `CAUSEWAY_HTTP_PORT: expected an integer from 0 to 65535, got ${JSON.stringify(value)}`,
  ])
})

test.each(['yes', '1', 'TRUE', 'on'])('%j is no boolean', (value) => {
  expect(faultsOf({ CAUSEWAY_ALLOW_DOLLAR_TOPICS: value })).toEqual([
    `CAUSEWAY_ALLOW_DOLLAR_TOPICS: expected true or false, got ${JSON.stringify(value)}`,
  ])
})

describe('secrets', () => {
  test('come from a file too', () => {
    expect(load({ CAUSEWAY_MQTT_USERNAME: 'u', CAUSEWAY_MQTT_PASSWORD_FILE: '/run/password' }).mqttPassword).toBe(
      'from a file',
    )
  })

  test('from one place only, and from a file that can be read', () => {
    expect(
      faultsOf({
        CAUSEWAY_MQTT_USERNAME: 'u',
        CAUSEWAY_MQTT_PASSWORD: 'p',
        CAUSEWAY_MQTT_PASSWORD_FILE: '/run/password',
      }),
    ).toEqual(['CAUSEWAY_MQTT_PASSWORD_FILE: expected either this variable or CAUSEWAY_MQTT_PASSWORD, got both'])
    expect(faultsOf({ CAUSEWAY_MQTT_USERNAME: 'u', CAUSEWAY_MQTT_PASSWORD_FILE: '/none' })).toEqual([
      'CAUSEWAY_MQTT_PASSWORD_FILE: expected a readable file, got "/none" (ENOENT)',
    ])
    expect(faultsOf({ CAUSEWAY_HTTP_PORT_FILE: '/run/password' })).toHaveLength(1)
  })

  test('are in no message', () => {
    const message = faultsOf({
      CAUSEWAY_MQTT_URL: 'http://user:hunter2@broker',
      CAUSEWAY_MQTT_PASSWORD: 'hunter2',
    }).join()
    expect(message).toContain('CAUSEWAY_MQTT_URL: expected embedded: or mqtt://')
    expect(message).toContain('CAUSEWAY_MQTT_PASSWORD: expected together with CAUSEWAY_MQTT_USERNAME')
    expect(message).not.toContain('hunter2')
  })
})

describe('off loopback without authentication', () => {
  test.each(['0.0.0.0', '::', '192.168.1.5', 'bridge.lan', '127.0.0.1.example.com'])('%s is refused', (host) => {
    expect(faultsOf({ CAUSEWAY_HTTP_HOST: host })[0]).toContain('CAUSEWAY_AUTH_NONE_PUBLIC=true if that is intended')
    expect(load({ CAUSEWAY_HTTP_HOST: host, CAUSEWAY_AUTH_NONE_PUBLIC: 'true' }).httpHost).toBe(host)
  })

  test.each(['127.0.0.1', '127.8.8.8', '::1', 'localhost'])('%s is loopback', (host) => {
    expect(load({ CAUSEWAY_HTTP_HOST: host }).httpHost).toBe(host)
  })
})

test('a client certificate needs its key', () => {
  expect(faultsOf({ CAUSEWAY_MQTT_URL: 'mqtts://broker', CAUSEWAY_MQTT_CERT_FILE: '/run/ca.pem' })).toEqual([
    'CAUSEWAY_MQTT_CERT_FILE: expected together with CAUSEWAY_MQTT_KEY_FILE, got only one of them',
  ])
})
