import { expect, test } from 'vitest'
import { parseArguments, secretsShown, UsageError } from '../../src/command/arguments.ts'
import { loadConfig } from '../../src/config/config.ts'
import { allSettings } from '../../src/config/setting.ts'
import { faultsIn } from '../support/config-faults.ts'

function faultsOf(args: string[]): string[] {
  try {
    parseArguments(args)
  } catch (error) {
    if (error instanceof UsageError) return error.message.split('\n')
    throw error
  }
  return []
}

function load(args: string[], env: Record<string, string> = {}) {
  const command = parseArguments(args)
  if (command.name !== 'serve') throw new Error(`expected serve, got ${command.name}`)
  return loadConfig(env, (path) => `text of ${path}\n`, command.flags)
}

test('every setting has a flag, which says the same as its variable', () => {
  for (const { flag, variable, type, choices, key } of allSettings()) {
    const text = type === 'boolean' ? 'true' : type === 'integer' ? '7' : (choices?.at(-1) ?? 'text')
    const command = parseArguments(type === 'boolean' ? [flag] : [flag, text])
    expect(command, key).toEqual({ name: 'serve', flags: [{ name: flag, variable, text }] })
  }
})

test('a flag wins over the variable of the same setting, also over the one of a file', () => {
  const env = { CAUSEWAY_HTTP_PORT: '1', CAUSEWAY_ADMIN_PORT: '2', CAUSEWAY_MQTT_PASSWORD_FILE: '/run/a' }
  const config = load(['--http-port=3', '--mqtt-username', 'u', '--mqtt-password-file', '/run/b'], env)
  expect(config).toMatchObject({ httpPort: 3, adminPort: 2, mqttPassword: 'text of /run/b' })
})

test('a switch needs no value, and can be switched off', () => {
  const env = { CAUSEWAY_ALLOW_DOLLAR_TOPICS: 'true' }
  expect(load(['--allow-dollar-topics']).allowDollarTopics).toBe(true)
  expect(load(['--no-allow-dollar-topics'], env).allowDollarTopics).toBe(false)
  expect(load(['--allow-dollar-topics=false'], env).allowDollarTopics).toBe(false)
})

test('faults of values name the flag', () => {
  const args = ['--http-port', 'eighty', '--allow-dollar-topics=yes', '--mqtt-url', 'http://secret']
  expect(faultsIn(() => load(args, { CAUSEWAY_STREAM_MAX: '-1' }))).toEqual([
    expect.stringMatching(/^--mqtt-url: expected .*, got another value, not shown/),
    '--allow-dollar-topics: expected true or false, got "yes"',
    '--http-port: expected an integer from 0 to 65535, got "eighty"',
    'CAUSEWAY_STREAM_MAX: expected an integer from 1 to 1000000, got "-1"',
  ])
})

test.each([
  [['--htpp-port', '80'], ['--htpp-port is no option; did you mean --http-port?']],
  [['--status'], ['--status is no option; did you mean --status-topic?']],
  [['--entirely-different'], ['--entirely-different is no option']],
  [['chekc'], ['"chekc" is no command; did you mean check?']],
  [['--http-port'], ['--http-port needs a value: --http-port VALUE']],
  [['--http-port', '--auth', 'none'], ['--http-port needs a value: --http-port VALUE']],
  [['--mqtt-username', '--mqtt-url=mqtt://h'], ['--mqtt-username needs a value: --mqtt-username VALUE']],
  [['--no-auth-cookie=true'], ['--no-auth-cookie takes no value']],
  [['--http-port='], ['--http-port needs a value: --http-port VALUE']],
  [['--http-port', '1', '--http-port', '2'], ['--http-port is there twice']],
  [['--connect'], ['--connect is an option of causeway check only']],
  [
    ['check', '--connect=yes', 'now'],
    ['--connect takes no value', 'unexpected: "now"'],
  ],
  [['token'], ['the command token needs a name: causeway token NAME']],
  [['token', ''], ['the command token needs a name: causeway token NAME']],
  [['token', 'one', 'two'], ['unexpected: "two"']],
  [['token', 'one', '--http-port', '1'], ['--http-port: the command token takes no settings']],
  [['-x'], ['-x is no option']],
])('%j is not understood', (args, faults) => {
  expect(faultsOf(args)).toEqual(faults)
})

test.each([
  [[], { name: 'serve', flags: [] }],
  [['token', 'one'], { name: 'token', tokenName: 'one' }],
  [['check'], { name: 'check', flags: [], connect: false, json: false }],
  [['check', '--json', '--connect'], { name: 'check', flags: [], connect: true, json: true }],
  [['-h'], { name: 'help', of: undefined }],
  [['check', '--help', '--wrong'], { name: 'help', of: 'check' }],
  [['--version'], { name: 'version' }],
  [['-v'], { name: 'version' }],
])('%j is understood', (args, command) => {
  expect(parseArguments(args)).toEqual(command)
})

test('secrets on the command line are found, and files and URLs without a password are none', () => {
  const command = parseArguments(
    ['--mqtt-password=x', '--jwt-secret-file=/run/s', '--mqtt-url=mqtt://u:p@h', '--jwt-jwks-url=http://h'].flatMap(
      (arg) => arg.split('='),
    ),
  )
  expect(command.name === 'serve' && secretsShown(command.flags)).toEqual(['--mqtt-password', '--mqtt-url'])
})
