import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { distFile } from '../support/dist.ts'
import { collect, mqttClient } from '../support/mqtt-client.ts'
import { freePort } from '../support/free-port.ts'
import { plainEnvironment } from '../support/plain-environment.ts'
import { hasRedis, startRedis } from '../support/redis.ts'
import { tokenFile } from '../support/token-file.ts'

async function causeway(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [distFile('main.js'), ...args], {
    env: plainEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [[code], stdout, stderr] = await Promise.all([once(child, 'close'), text(child.stdout), text(child.stderr)])
  return { code: code as number, stdout, stderr }
}

test('help and version go to stdout, what is not understood to stderr with 2', async () => {
  const [help, version, wrong] = await Promise.all([causeway('--help'), causeway('--version'), causeway('--verison')])
  expect(help).toMatchObject({ code: 0, stdout: expect.stringContaining('--mqtt-url URL'), stderr: '' })
  expect(version).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), stderr: '' })
  expect(wrong).toEqual({
    code: 2,
    stdout: '',
    stderr: '--verison is no option; did you mean --version?\nSee causeway --help\n',
  })
})

test('check reads the files that the settings name, and lists what is wrong with 1', async () => {
  const tokens = tokenFile([])
  tokens.writeText('no JSON')
  const args = ['--auth', 'token', '--auth-tokens-file', tokens.path]
  const fault = `CAUSEWAY_AUTH_TOKENS_FILE ${tokens.path}: expected JSON`
  expect(await causeway('check', ...args)).toMatchObject({ code: 1, stdout: expect.stringContaining(fault) })
  const pushFault = `CAUSEWAY_PUSH_FILE ${tokens.path}: expected JSON`
  expect(await causeway('check', '--push-file', tokens.path)).toMatchObject({
    code: 1,
    stdout: expect.stringContaining(pushFault),
  })
  const { code, stdout } = await causeway('check', '--json', '--http-port=x')
  expect(code).toBe(1)
  expect(JSON.parse(stdout)).toEqual({
    valid: false,
    faults: ['--http-port: expected an integer from 0 to 65535, got "x"'],
  })
})

test('check --connect tries the embedded broker out', async () => {
  const { code, stdout } = await causeway('check', '--connect', '--json')
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({
    valid: true,
    connected: true,
    broker: { learnt: { markers: true, copies: 'told-apart', redelivery: 'marked', changedCharacters: '' } },
    trial: {
      publishes: [0, 1, 2].map((qos) => ({ qos, arrivedMs: expect.any(Number) })),
    },
  })
})

test.skipIf(!hasMosquitto)('check --connect shows what Mosquitto is and does', async () => {
  const { url } = await startMosquitto()
  const { code, stdout } = await causeway('check', '--connect', '--mqtt-url', url)
  expect(code).toBe(0)
  for (const row of [/Protocol +MQTT 5/, /Calls itself +mosquitto version/, /Unacknowledged publishes +20 at most/]) {
    expect(stdout).toMatch(row)
  }
  for (const row of [/Topic of nobody +it says so/, /Overlapping filters +a copy for each/, /by wildcard +comes/]) {
    expect(stdout).toMatch(row)
  }
  for (const row of [/Markers +come back/, /Copies of overlaps +say which/, /Not acknowledged +comes again, marked/]) {
    expect(stdout).toMatch(row)
  }
  expect(stdout).toMatch(/Retained, by wildcard +read\n +Retained, last one +shows by a marker/)
  expect(stdout).toMatch(/Characters of topics +stay as they are\n$/)
  const options = ['--mqtt-url', url, '--mqtt-protocol', '3.1.1', '--marker-topic', 'trial']
  const over311 = await causeway('check', '--connect', ...options)
  expect(over311.stdout).toMatch(/Shared subscription +gets messages; set CAUSEWAY_MQTT_SHARED_SUBSCRIPTIONS=true/)
  // The retained messages of the trial are deleted again: the first one to come is not one of them.
  const client = await mqttClient(url)
  const { next } = await collect(client, 'trial/#')
  await client.publishAsync('trial/end', 'x', { qos: 1 })
  expect((await next()).topic).toBe('trial/end')
  expect(stdout).toMatch(/Publish QoS 1 +acknowledged after [\d.]+ ms \(Success\), arrived after [\d.]+ ms/)
})

test('check --connect exits with 3 where no broker answers, and says why', async () => {
  const { code, stdout } = await causeway('check', '--connect', '--mqtt-url', `mqtt://127.0.0.1:${await freePort()}`)
  expect(code).toBe(3)
  expect(stdout).toMatch(/Not connected +.*nothing listens there/)
})

test.skipIf(!hasRedis)('check --connect tries Redis too, and exits with 3 where that does not answer', async () => {
  const { url, kill } = await startRedis()
  const here = await causeway('check', '--connect', '--redis-url', url)
  expect(here).toMatchObject({ code: 0, stdout: expect.stringMatching(/Redis\n +redis:\S+ +answers\n$/) })
  await kill()
  const away = await causeway('check', '--connect', '--redis-url', url)
  expect(away).toMatchObject({ code: 3, stdout: expect.stringMatching(/Redis\n +redis:\S+ +does not answer: .+\n$/) })
  const json = await causeway('check', '--connect', '--json', '--redis-url', url)
  expect(JSON.parse(json.stdout)).toMatchObject({ connected: true, redis: { state: 'away' } })
})
