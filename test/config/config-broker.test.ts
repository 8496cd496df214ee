import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ConfigSchema, loadConfig, variableName } from '../../src/config/config.ts'
import { faultsIn } from '../support/config-faults.ts'

const SECRET = 'hunter2'

function readFile(path: string): string {
  if (!path.startsWith('/run/')) throw Object.assign(new Error(`no such file: ${path}`), { code: 'ENOENT' })
  return path === '/run/empty' ? '\n' : `${SECRET} \r\n`
}

const faultsOf = (env: Record<string, string>) => faultsIn(() => loadConfig(env, readFile))

describe('the broker’s URL', () => {
  test.each([
    'embedded:',
    'mqtt://localhost',
    'mqtts://broker.example:8883',
    'ws://10.0.0.1:9001/mqtt',
    'wss://u:p@broker.example/mqtt?x=1',
    'mqtt://[::1]:1883',
    'mqtt+unix:///run/mosquitto/mqtt.sock',
    'mqtt://one.example,mqtts://u:a,b@two.example:8884/,ws://three.example/mqtt?tenant=x',
  ])('may be %s', (url) => {
    expect(loadConfig({ CAUSEWAY_MQTT_URL: url }, readFile).mqttUrl).toBe(url)
  })

  test.each([
    'broker',
    'http://broker',
    'mqtt:broker',
    'mqtt://',
    'mqtt:///x',
    'mqtt://:1883',
    'mqtt://a b',
    'mqtt://[::1',
    'mqtt://broker:99999',
    'mqtt://broker:x',
    ' mqtt://broker',
    'embedded:x',
    'MQTT://broker',
    'mqtt://one,two',
    'mqtt://one, mqtt://two',
    'mqtt://one,',
    'mqtt://one,embedded:',
    'mqtt+unix://',
    'mqtt+unix://host/path',
    'mqtt+unix:///%zz',
  ])('may not be %j', (url) => {
    expect(faultsOf({ CAUSEWAY_MQTT_URL: url })).toEqual([
      'CAUSEWAY_MQTT_URL: expected embedded: or mqtt://, mqtts://, ws:// or wss:// URLs with a host, or ' +
        'mqtt+unix:///PATH, separated by commas, got another value, not shown as it may contain a secret',
    ])
  })

  test.each([
    ['mqtt://broker?clientId=x', 'expected a query only in ws:// and wss:// URLs, got one where it means nothing'],
    ['mqtts://one,mqtts://two/?a=b', 'expected a query only in ws:// and wss:// URLs, got one where it means nothing'],
    [
      'mqtt://broker/path',
      'expected a path only in ws://, wss:// and mqtt+unix:// URLs, got one where it means nothing',
    ],
    ['ws://broker/mqtt#x', 'expected no fragment, got a # with text behind it; in a password it is %23'],
    [
      `mqtt://u:${SECRET}50%@broker`,
      'expected a password in which % is written as %25, got a % without two hexadecimal digits behind it',
    ],
    [
      'mqtt://100%:x@broker',
      'expected a user name in which % is written as %25, got a % without two hexadecimal digits behind it',
    ],
  ])('is refused if something in it would have no effect: %s', (url, fault) => {
    expect(faultsOf({ CAUSEWAY_MQTT_URL: url })).toEqual([`CAUSEWAY_MQTT_URL: ${fault}`])
  })

  test('names the user, or a variable does', () => {
    const env = { CAUSEWAY_MQTT_URL: `mqtt://bridge@broker`, CAUSEWAY_MQTT_PASSWORD: SECRET }
    expect(loadConfig(env, readFile)).toMatchObject({ mqttUrl: 'mqtt://bridge@broker', mqttPassword: SECRET })
    expect(faultsOf({ ...env, CAUSEWAY_MQTT_USERNAME: 'other' })).toEqual([
      'CAUSEWAY_MQTT_USERNAME: expected either this variable or the same in CAUSEWAY_MQTT_URL, got both',
    ])
    expect(faultsOf({ ...env, CAUSEWAY_MQTT_URL: `mqtt://bridge:${SECRET}@broker` })).toEqual([
      'CAUSEWAY_MQTT_PASSWORD: expected either this variable or the same in CAUSEWAY_MQTT_URL, got both',
    ])
  })
})

describe('a file with a secret', () => {
  test('holds it without the line break at its end, and with the spaces before', () => {
    expect(
      loadConfig({ CAUSEWAY_MQTT_USERNAME: 'u', CAUSEWAY_MQTT_PASSWORD_FILE: '/run/secret' }, readFile).mqttPassword,
    ).toBe(`${SECRET} `)
  })

  test('that cannot be read is the one fault reported of it', () => {
    expect(faultsOf({ CAUSEWAY_MQTT_USERNAME: 'u', CAUSEWAY_MQTT_PASSWORD_FILE: '/none' })).toEqual([
      'CAUSEWAY_MQTT_PASSWORD_FILE: expected a readable file, got "/none" (ENOENT)',
    ])
  })

  test('that is empty or wrong is named by its own variable', () => {
    expect(faultsOf({ CAUSEWAY_MQTT_USERNAME: 'u', CAUSEWAY_MQTT_PASSWORD_FILE: '/run/empty' })[0]).toMatch(
      /^CAUSEWAY_MQTT_PASSWORD_FILE: expected a text/,
    )
    expect(faultsOf({ CAUSEWAY_MQTT_URL_FILE: '/run/secret' })[0]).toMatch(
      /^CAUSEWAY_MQTT_URL_FILE: expected embedded:/,
    )
  })

  test('is for secrets alone, and certificates come from nothing else', () => {
    expect(faultsOf({ CAUSEWAY_HTTP_HOST_FILE: '/run/secret' })).toEqual([
      'CAUSEWAY_HTTP_HOST_FILE: expected the name of a setting (see causeway --help), got an unknown one; ' +
        'did you mean CAUSEWAY_HTTP_HOST?',
    ])
    expect(faultsOf({ CAUSEWAY_MQTT_CA: SECRET, CAUSEWAY_MQTT_CA_FILE_FILE: '/run/secret' })).toHaveLength(2)
  })

  test('and its variable given both, in either order, is a fault', () => {
    const both = {
      CAUSEWAY_MQTT_USERNAME: 'u',
      CAUSEWAY_MQTT_PASSWORD_FILE: '/run/secret',
      CAUSEWAY_MQTT_PASSWORD: SECRET,
    }
    expect(faultsOf(both)).toEqual([
      'CAUSEWAY_MQTT_PASSWORD: expected either this variable or CAUSEWAY_MQTT_PASSWORD_FILE, got both',
    ])
    expect(faultsOf({ ...both, CAUSEWAY_MQTT_PASSWORD: '' })).toEqual([])
  })
})

test('a certificate and its key need each other', () => {
  const env = { CAUSEWAY_MQTT_URL: 'mqtts://broker' }
  expect(faultsOf({ ...env, CAUSEWAY_MQTT_KEY_FILE: '/run/key' })).toEqual([
    'CAUSEWAY_MQTT_KEY_FILE: expected together with CAUSEWAY_MQTT_CERT_FILE, got only one of them',
  ])
  expect(faultsOf({ ...env, CAUSEWAY_MQTT_KEY_FILE: '/run/key', CAUSEWAY_MQTT_CERT_FILE: '/run/cert' })).toEqual([])
  expect(faultsOf({ CAUSEWAY_HTTP_CERT_FILE: '/run/cert' })).toEqual([
    'CAUSEWAY_HTTP_CERT_FILE: expected together with CAUSEWAY_HTTP_KEY_FILE, got only one of them',
  ])
  expect(faultsOf({ CAUSEWAY_HTTP_CERT_FILE: '/run/cert', CAUSEWAY_HTTP_KEY_FILE: '/run/key' })).toEqual([])
})

test('what TLS needs means nothing without', () => {
  const plain = 'expected only with an mqtts: or wss: URL, got it with an unencrypted connection'
  const env = { CAUSEWAY_MQTT_CA_FILE: '/run/ca', CAUSEWAY_MQTT_SERVER_NAME: 'broker' }
  for (const url of ['mqtt://broker', 'ws://broker', 'embedded:']) {
    expect(faultsOf({ ...env, CAUSEWAY_MQTT_URL: url })).toEqual([
      `CAUSEWAY_MQTT_CA_FILE: ${plain}`,
      `CAUSEWAY_MQTT_SERVER_NAME: ${plain}`,
    ])
  }
  for (const url of ['mqtts://broker', 'wss://broker']) expect(faultsOf({ ...env, CAUSEWAY_MQTT_URL: url })).toEqual([])
})

test('what a WebSocket needs means nothing without', () => {
  const headers = { CAUSEWAY_MQTT_WS_HEADERS_FILE: '/run/headers' }
  expect(faultsOf({ ...headers, CAUSEWAY_MQTT_URL: 'mqtt://broker' })).toEqual([
    'CAUSEWAY_MQTT_WS_HEADERS_FILE: expected only with a ws: or wss: URL, got it with another one',
  ])
  expect(faultsOf({ ...headers, CAUSEWAY_MQTT_URL: 'mqtt://one,wss://two' })).toEqual([])
})

test('two listeners need two ports, unless any port will do', () => {
  expect(faultsOf({ CAUSEWAY_HTTP_PORT: '9000', CAUSEWAY_ADMIN_PORT: '9000' })).toEqual([
    'CAUSEWAY_ADMIN_PORT: expected a different port than CAUSEWAY_HTTP_PORT, got 9000 for both',
  ])
  expect(faultsOf({ CAUSEWAY_HTTP_PORT: '0', CAUSEWAY_ADMIN_PORT: '0' })).toEqual([])
  expect(faultsOf({ CAUSEWAY_HTTP_PORT: 'a\nb', CAUSEWAY_ADMIN_PORT: 'a\nb' }).join(' ')).not.toContain(
    'different port',
  )
})

const names = Object.keys(ConfigSchema.properties).map(variableName)
const secretNames = names.filter((name) => /URL|PASSWORD/.test(name))

test('no environment whatever does more than report its faults, one line for each variable', () => {
  const value = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('true', '-1', '1', '9'.repeat(400), 'NaN', '/run/x', 'mqtt://u:p@h', '__proto__', 'a\nb'),
  )
  const env = fc.dictionary(fc.constantFrom(...names, 'CAUSEWAY_X', 'CAUSEWAY_', 'CAUSEWAY___PROTO__'), value)
  fc.assert(
    fc.property(env, (variables) => {
      const faults = faultsOf(variables)
      for (const fault of faults) expect(fault).toMatch(/^CAUSEWAY_\w*: expected .*, got [^\r\n]*$/)
    }),
  )
})

test('no secret is in a message, whatever is wrong with it', () => {
  const wrapped = fc.constantFrom(
    SECRET,
    `http://u:${SECRET}@h`,
    `mqtt://u:${SECRET}@h:99999`,
    `mqtt://u:${SECRET} @h`,
    `${SECRET}\n`,
  )
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom(...secretNames, 'CAUSEWAY_MQTT_PASSWD'), wrapped, { minKeys: 1 }),
      (variables) => {
        expect(faultsOf({ ...variables, CAUSEWAY_HTTP_PORT: 'x' }).join('\n')).not.toContain(SECRET)
      },
    ),
  )
})
