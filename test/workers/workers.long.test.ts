import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect as connectPlain, createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { connect } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { startMosquitto } from '../support/broker.ts'
import { spawnBridge } from '../support/bridge-process.ts'
import { createAuthority, hasOpenssl } from '../support/certificates.ts'
import { ask as askHttp2, openSession as openHttp2 } from '../support/http2.ts'
import { outcomeOf, PUBLISH } from '../support/raw-outcome.ts'
import { openSession } from '../support/session.ts'
import { startWorkers, workersOf } from '../support/workers.ts'

/** Asks on a connection of its own, so that the workers take turns. */
async function ask(method: string, url: string, body = '', headers: Record<string, string> = {}) {
  const sent = request(url, { method, agent: false, headers: { connection: 'close', ...headers } }).end(body)
  const [answer] = await once(sent, 'response')
  return { status: answer.statusCode as number, body: await text(answer) }
}

async function value(url: string, series: string, headers: Record<string, string> = {}): Promise<number> {
  const { body } = await ask('GET', `${url}/metrics`, '', headers)
  const line = body.split('\n').find((candidate) => candidate.startsWith(`${series} `))
  return Number(line?.slice(series.length + 1))
}

const ACKNOWLEDGED = 'causeway_publish_messages_total{qos="1",outcome="no_subscribers"}'

test('workers share the port, and their metrics are one', async () => {
  const { bridge, url } = await startWorkers({ MQTT_CLIENT_ID: 'shared' })
  for (let times = 0; times < 6; times += 1) {
    expect((await ask('POST', `${url}/publish?topic=a`, 'x')).status).toBe(200)
  }
  // Whichever worker is asked.
  expect(await value(url, ACKNOWLEDGED)).toBe(6)
  expect(await value(url, ACKNOWLEDGED, { accept: 'application/openmetrics-text' })).toBe(6)
  expect(await value(url, 'causeway_mqtt_connections{role="publish",state="connected"}')).toBe(4)
  expect(await value(url, 'causeway_broker_reachable')).toBe(1)
  const { body } = await ask('GET', `${url}/metrics`)
  expect(body).toMatch(/^causeway_build_info\{.*\} 1$/m)
  expect(body).toMatch(/^causeway_publish_ack_seconds_count\{qos="1"\} 6$/m)
  bridge.kill('SIGTERM')
  expect(await bridge.exited).toEqual({ code: 0, signal: null })
  // With one client id each would have ended the other's connections again and again.
  expect(bridge.stdout()).not.toContain('client id')
})

test('a worker that is killed is replaced, and what it had counted stays counted', async () => {
  const { bridge, url } = await startWorkers()
  for (let times = 0; times < 4; times += 1) await ask('POST', `${url}/publish?topic=a`, 'x')
  expect(await value(url, ACKNOWLEDGED)).toBe(4)
  const before = workersOf(bridge)
  process.kill(before[0]!, 'SIGKILL')
  await expect.poll(() => bridge.stdout()).toMatch(/worker \d ended by SIGKILL; another one takes its place/)
  // The other one serves alone.
  expect((await ask('POST', `${url}/publish?topic=a`, 'x')).status).toBe(200)
  expect(await value(url, ACKNOWLEDGED)).toBe(5)
  await expect.poll(() => bridge.stdout(), { timeout: 30_000 }).toMatch(/worker \d serves again/)
  const after = workersOf(bridge)
  expect(after).toHaveLength(2)
  expect(after).not.toContain(before[0])
  expect(await value(url, ACKNOWLEDGED)).toBe(5)
})

test('what workers had counted that end at the same time stays counted', async () => {
  const { bridge, url } = await startWorkers({ WORKERS: 3 })
  for (let times = 0; times < 6; times += 1) await ask('POST', `${url}/publish?topic=a`, 'x')
  expect(await value(url, ACKNOWLEDGED)).toBe(6)
  // With the last one the port would be another one.
  for (const pid of workersOf(bridge).slice(1)) process.kill(pid, 'SIGKILL')
  await expect.poll(() => bridge.stdout(), { timeout: 30_000 }).toMatch(/serves again[^]*serves again/)
  expect(await value(url, ACKNOWLEDGED)).toBe(6)
})

test('a session is acknowledged and deleted through any worker', async () => {
  const { url } = await startWorkers()
  const reader = await openSession({ url }, { topics: ['a'], ack: 'explicit' })
  for (let count = 0; count < 4; count += 1) {
    await ask('POST', `${url}/publish?topic=a`, String(count))
    const { id } = await reader.next()
    const body = JSON.stringify({ id })
    const answer = await ask('POST', `${url}/sessions/${reader.about.data.id}/ack`, body, {
      'content-type': 'application/json',
    })
    expect(answer.status, answer.body).toBe(200)
  }
  expect((await ask('DELETE', `${url}/sessions/${reader.about.data.id}`)).status).toBe(204)
  await reader.ended
})

test('a worker waits for the headers of a request as long as one process does', async () => {
  const { url } = await startWorkers({ HEADERS_TIMEOUT_MS: 1000 })
  const socket = connectPlain(Number(new URL(url).port), '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  socket.write('GET /livez HTTP/1.1\r\nHost: localhost\r\n')
  expect(await outcomeOf(socket)).toBe('HTTP/1.1 408 Request Timeout')
})

test.runIf(hasOpenssl)('over TLS each worker speaks HTTP/1.1 and HTTP/2, and goes on with any session', async () => {
  const authority = createAuthority()
  onTestFinished(() => authority.remove())
  const files = authority.issue('bridge')
  const { bridge, url: adminUrl } = await startWorkers({
    HTTP_CERT_FILE: files.cert,
    HTTP_KEY_FILE: files.key,
    HTTP_CONNECTIONS_MAX: 2,
    ADMIN_PORT: 0,
  })
  const url = /publish: .*'(https:\/\/127\.0\.0\.1:\d+)\/publish/.exec(bridge.stdout())![1]!
  const { port } = new URL(url)
  async function secured(session?: Buffer) {
    const socket = connect({ host: '127.0.0.1', port: Number(port), ca: authority.ca, maxVersion: 'TLSv1.2', session })
    const [ticket] = await Promise.all([
      session ?? once(socket, 'session').then(([given]) => given as Buffer),
      once(socket, 'secureConnect'),
    ])
    const isReused = socket.isSessionReused()
    socket.write(PUBLISH)
    expect(await outcomeOf(socket)).toBe('HTTP/1.1 200 OK')
    return { ticket, isReused }
  }
  const { ticket } = await secured()
  for (let times = 0; times < 4; times += 1) expect((await secured(ticket)).isReused).toBe(true)
  // Two for each worker, and no more.
  const sessions = await Promise.all(Array.from({ length: 4 }, () => openHttp2(url, authority.ca)))
  const answers = await Promise.all(sessions.map((session) => askHttp2(session, 'POST', '/publish?topic=a', {}, 'x')))
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200])
  expect(await value(adminUrl, 'causeway_http_connections')).toBe(4)
  const refused = connect({ host: '127.0.0.1', port: Number(port), ca: authority.ca })
  expect(await outcomeOf(refused)).toMatch(/ECONNRESET|without an answer/)
  expect(await value(adminUrl, 'causeway_limited_total{limit="connections"}')).toBe(1)
  bridge.kill('SIGTERM')
  expect(await bridge.exited).toEqual({ code: 0, signal: null })
})

test('where no worker can start, the process ends and says why', async () => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  onTestFinished(() => void taken.close())
  const { port } = taken.address() as { port: number }
  const broker = await startMosquitto()
  const bridge = spawnBridge({ MQTT_URL: broker.url, WORKERS: 2, HTTP_PORT: port })
  expect(await bridge.exited).toEqual({ code: 1, signal: null })
  expect(bridge.stdout()).toContain(`port ${port} is in use by another process; set CAUSEWAY_HTTP_PORT`)
  expect(bridge.stdout()).toMatch(/worker \d ended with exit code 1 before it served/)
})

test('workers end with their parent, however it ends', async () => {
  const { bridge } = await startWorkers()
  const workers = workersOf(bridge)
  bridge.kill('SIGKILL')
  await bridge.exited
  for (const pid of workers) await expect.poll(() => isRunning(pid)).toBe(false)
})

function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
