import { expect, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { attack } from '../support/hostile/attacks.ts'
import { complaints, residentBytes } from '../support/process-state.ts'
import { startProxy } from '../support/proxy.ts'
import { exchange } from '../support/raw-http.ts'
import { type Script, startScriptedBroker } from '../support/scripted-broker.ts'
import { openStream } from '../support/stream.ts'
import { Random } from '../support/storm/random.ts'

const { CAUSEWAY_TEST_SEED, CAUSEWAY_TEST_OPERATIONS } = process.env
const SEED = CAUSEWAY_TEST_SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(CAUSEWAY_TEST_SEED)
/** Attacks. */
const OPERATIONS = Number(CAUSEWAY_TEST_OPERATIONS ?? 60)

/** Behaves with some packets and attacks over others, so that it gets at every state of the bridge. */
function hostileScript(random: Random, attacked: () => void): Script {
  return (packet, peer) => {
    if (packet.cmd === 'disconnect' || random.chance(packet.cmd === 'connect' ? 0.7 : 0.5)) return false
    attacked()
    if (packet.cmd === 'connect' && random.chance(0.6)) peer.accept(random.chance(0.5))
    void attack(random, peer)
    return true
  }
}

const head = (method: string, path: string, ...headers: string[]) =>
  [`${method} ${path} HTTP/1.1`, 'Host: localhost', ...headers, '', ''].join('\r\n')
const CALLS: [method: string, request: string][] = [
  ...[0, 1, 2].map((qos): [string, string] => [
    'POST',
    head('POST', `/publish?topic=a&qos=${qos}`, 'Content-Length: 0'),
  ]),
  ['POST', head('POST', '/request?topic=a&timeout=50', 'Content-Length: 0')],
  ['GET', head('GET', '/subscribe?topic=a')],
  ['GET', head('GET', '/subscribe?topic=a&session=s')],
  ['GET', head('GET', '/retained?topic=a')],
  ['GET', head('GET', '/retained?topic=a/%23')],
  ['DELETE', head('DELETE', '/retained?topic=a')],
]

test.runIf(hasMosquitto)(
  'no broker, whatever it sends, ends the bridge, holds its callers up or keeps it from the next one',
  { timeout: 60_000 + OPERATIONS * 1000 },
  async () => {
    const run = `CAUSEWAY_TEST_SEED=${SEED} CAUSEWAY_TEST_OPERATIONS=${OPERATIONS}`
    const random = new Random(SEED)
    let attacks = 0
    const hostile = await startScriptedBroker(hostileScript(random.fork(), () => (attacks += 1)))
    const place = await startProxy(hostile.url)
    const bridge = spawnBridge({ MQTT_URL: place.url, PUBLISH_TIMEOUT_MS: 500, STREAM_LINGER_MS: 50 })
    const url = await bridge.url

    const answers = new Map<string, number>()
    async function call(own: Random): Promise<void> {
      while (attacks < OPERATIONS) {
        const [method, request] = own.pick(CALLS)
        // Rejects where there is no answer.
        const {
          answers: [answer],
          error,
        } = await exchange(url, Buffer.from(request), [method])
        if (answer === undefined) throw new Error(`${run}: ${request} got no answer`, { cause: error })
        const isProblem = answer.headers.get('content-type') === 'application/problem+json'
        const what = `${answer.status}${isProblem ? ` ${JSON.parse(answer.body.toString()).code}` : ''}`
        answers.set(what, (answers.get(what) ?? 0) + 1)
        if (answer.status === 500 || (answer.status >= 400 && !isProblem)) {
          throw new Error(`${run}: ${request} got ${what}`)
        }
      }
    }
    await Promise.all(Array.from({ length: 8 }, () => call(random.fork())))
    console.log(`hostile broker: ${run}: ${attacks} attacks; ${JSON.stringify(Object.fromEntries(answers))}`)
    expect(residentBytes(bridge.pid) ?? 0).toBeLessThan(400 * 1024 * 1024)
    const lines = complaints(bridge.stdout())
    expect(
      lines.filter((line) => !line.startsWith('{"level":40,')),
      run,
    ).toEqual([])
    expect(lines.length, run).toBeLessThanOrEqual(attacks)

    const good = await startMosquitto()
    place.turnTo(good.url)
    await expect.poll(async () => (await fetch(`${url}/readyz`)).status, { timeout: 25_000 }).toBe(200)
    await expect
      .poll(async () => (await fetch(`${url}/publish?topic=a&qos=2`, { method: 'POST', body: 'x' })).status, {
        timeout: 25_000,
      })
      .toBe(200)
    // Each connection comes back in its own time.
    let stream = await openStream(`${url}/subscribe?topic=b`)
    while (stream.status === 503) stream = await openStream(`${url}/subscribe?topic=b`)
    expect((await fetch(`${url}/publish?topic=b`, { method: 'POST', body: 'good' })).status).toBe(200)
    expect(await stream.next()).toMatchObject({ event: 'message', data: { payload: 'good' } })
    expect(bridge.stderr()).toBe('')
  },
)
