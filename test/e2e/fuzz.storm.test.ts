import { describe, expect, test } from 'vitest'
import type { Settings } from '../support/bridge.ts'
import { type BridgeProcess, spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { faultsOf, someSending } from '../support/fuzz/answers.ts'
import { startNeighbours } from '../support/fuzz/neighbours.ts'
import { someRequest } from '../support/fuzz/requests.ts'
import { complaints, openFiles } from '../support/process-state.ts'
import { exchange } from '../support/raw-http.ts'
import { Random } from '../support/storm/random.ts'
import { randomRun } from '../support/storm/random-run.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

/** An operation is one connection, with one to four requests. */
const { seed, operations, replay } = randomRun({ brief: 200, long: 1500 })
const CLIENTS = 16
const LIMIT_MS = 120_000 + operations * 50
/** Each is 0 when nothing is left of the requests. */
const GAUGES = [
  'causeway_streams_open{format="sse"}',
  'causeway_streams_open{format="ndjson"}',
  'causeway_publish_in_flight',
  'causeway_requests_waiting',
  'causeway_subscription_filters',
  'causeway_sessions_open',
  'causeway_session_unacknowledged',
]

async function fuzz(url: string, credentials: readonly string[]): Promise<void> {
  const random = new Random(seed)
  const found: string[] = []
  const statuses = new Map<number, number>()
  let left = operations
  async function client(own: Random): Promise<void> {
    while (left > 0 && found.length < 5) {
      left -= 1
      const requests = Array.from({ length: own.chance(0.1) ? own.integer(2, 4) : 1 }, () =>
        someRequest(own, credentials),
      )
      const bytes = Buffer.concat(requests.map((request) => request.bytes))
      const sending = someSending(own, bytes.length)
      const sent = sending.ending === 'wait' ? bytes : bytes.subarray(0, own.integer(0, bytes.length))
      const methods = requests.map(({ method }) => method)
      const faults = await exchange(url, sent, methods, sending).then(
        (answered) => {
          for (const { status } of answered.answers) statuses.set(status, (statuses.get(status) ?? 0) + 1)
          return faultsOf(requests, answered, sending)
        },
        (error: Error) => [error.message],
      )
      if (faults.length > 0) {
        const text = JSON.stringify(sent.toString('latin1').slice(0, 2000))
        found.push(`${faults.join('; ')}\n  ${JSON.stringify(sending)} ${text}`)
      }
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, () => client(random.fork())))
  const counts = Object.fromEntries([...statuses].toSorted(([a], [b]) => a - b))
  console.log(`fuzz: ${replay}: ${JSON.stringify(counts)}`)
  expect(found, replay).toEqual([])
}

async function start(settings: Settings): Promise<BridgeProcess> {
  const broker = await startMosquitto({ config: ['max_queued_messages 0'] })
  // While a stream is answered, Node does not read what the client sent after that request, and so does not see that
  // the client has left. The second heartbeat that is written to the socket fails, which ends the stream.
  return spawnBridge({
    MQTT_URL: broker.url,
    STREAM_LINGER_MS: 100,
    STREAM_HEARTBEAT_MS: 1000,
    SESSION_EXPIRY_S: 5,
    // On a fast machine the other clients send more than the 1,000 a second that one caller may.
    RATE_IDENTITY: 100_000,
    ...settings,
  })
}

async function gauges(url: string, headers: Record<string, string>): Promise<Record<string, number>> {
  const text = await (await fetch(`${url}/metrics`, { headers })).text()
  return Object.fromEntries(
    GAUGES.map((name) => [
      name,
      Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${name} `))
          ?.slice(name.length + 1) ?? 0,
      ),
    ]),
  )
}

const token = makeToken('fuzz', ['#', '$SYS/#'])
const CASES: [name: string, settings: () => Settings, headers: Record<string, string>, credentials: string[]][] = [
  ['without authentication', () => ({}), {}, []],
  [
    'with tokens, cookies and CORS',
    () => ({
      ...tokenFile([token]).settings,
      AUTH_COOKIE: true,
      AUTH_QUERY_TOKEN: true,
      CORS_ORIGINS: 'https://app.example',
    }),
    token.headers,
    [`Authorization: ${token.headers.authorization}`],
  ],
]

describe.runIf(hasMosquitto)('a bridge that gets random requests', () => {
  test.each(CASES)(
    '%s, answers each correctly, keeps nothing of them and serves other clients meanwhile',
    { timeout: LIMIT_MS },
    async (_name, settings, headers, credentials) => {
      const bridge = await start(settings())
      const url = await bridge.url
      // From here on the files are open that the bridge opens once and keeps.
      await (await startNeighbours(url, headers)).done()
      await fetch(`${url}/retained?topic=good/%23`, { headers })
      await expect.poll(() => gauges(url, headers)).toEqual(Object.fromEntries(GAUGES.map((name) => [name, 0])))
      const files = openFiles(bridge.pid)
      // On a busy machine the first connection to the broker may fail, with a warning. What the bridge has logged so
      // far is not looked at.
      const logged = bridge.stdout().length

      const neighbours = await startNeighbours(url, headers)
      await fuzz(url, credentials)
      expect(await neighbours.done()).toBeGreaterThan(0)
      await expect
        .poll(() => gauges(url, headers), { timeout: 20_000 })
        .toEqual(Object.fromEntries(GAUGES.map((name) => [name, 0])))
      if (files !== undefined) {
        await expect.poll(() => openFiles(bridge.pid), { timeout: 20_000 }).toBeLessThanOrEqual(files!)
      }
      const reconnects = (await (await fetch(`${url}/metrics`, { headers })).text())
        .split('\n')
        .filter((line) => line.startsWith('causeway_mqtt_reconnects_total{') && !line.endsWith(' 0'))
      expect(reconnects).toEqual([])
      // Nobody replies to its requests, and the sessions and ids that it names do not exist.
      const complained = complaints(bridge.stdout().slice(logged)).filter(
        (line) => !/"status":504,|"reason":"(broker-session-lost|unknown-id)"/.test(line),
      )
      expect(complained).toEqual([])
      bridge.kill('SIGTERM')
      expect(await bridge.exited).toEqual({ code: 0, signal: null })
      expect(bridge.stderr()).toBe('')
    },
  )
})
