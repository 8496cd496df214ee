import type { Random } from '../storm/random.ts'
import { ackText, batchText, linesText, messageText, randomBytes } from './bodies.ts'
import { someHeaders } from './headers.ts'
import { encoded, nastyText, plainFilter, plainTopic } from './texts.ts'

/** A complete request with correct framing. What is in it may be anything. */
export interface FuzzRequest {
  method: string
  path: string
  bytes: Buffer
}

interface Route {
  method: string
  path(random: Random): string
  query?: Record<string, (random: Random) => string>
  body?(random: Random): { type: string; bytes: Buffer }
}

const QOS = (random: Random) => random.pick(['0', '1', '2', '2', '3', '-1', '1.0', 'x'])
const FLAG = (random: Random) => random.pick(['true', 'false', 'true', '1', ''])
const RAW = { qos: QOS, retain: FLAG, expiry: (random: Random) => random.pick(['0', '60', '-1', '4294967296', '1e3']) }
const TIMEOUT = (random: Random) => random.pick(['1', '20', '50', '0', '300001', 'x'])
const MESSAGE = (random: Random) => ({ type: 'application/json', bytes: messageText(random) })
const BYTES = (random: Random) => ({
  type: random.pick(['text/plain', 'application/octet-stream', 'application/x-www-form-urlencoded', 'image/png']),
  bytes: randomBytes(random),
})
const STREAM = {
  topic: plainFilter,
  qos: QOS,
  retained: FLAG,
  slow: (random: Random) => random.pick(['gap', 'latest', 'close', 'x']),
  encoding: () => 'json',
  lastEventId: (random: Random) =>
    random.pick(['1', '0-0', 'a-1', '-', '25da8d536543642070bde78e5e18-1', '../..', `${'9'.repeat(400)}-1`]),
  ack: (random: Random) => random.pick(['auto', 'explicit', 'x']),
}
const SESSION_IDS = ['x', '5feceb66ffc8-6b86b273ff34fce19d6b', '', '..', '%2e%2e', 'a'.repeat(200)]
const sessionPath = (random: Random) =>
  `/sessions/${random.pick([...SESSION_IDS, encoded(random, nastyText(random).slice(0, 50))])}`

/** Every operation of openapi.yaml, the documentation pages, and paths that do not exist. */
const ROUTES: readonly Route[] = [
  { method: 'POST', path: () => '/publish', body: MESSAGE },
  { method: 'POST', path: () => '/publish', body: MESSAGE },
  { method: 'POST', path: () => '/publish', query: { topic: plainTopic, ...RAW }, body: BYTES },
  {
    method: 'POST',
    path: () => '/publish/batch',
    body: (random) => ({ type: 'application/json', bytes: batchText(random) }),
  },
  {
    method: 'POST',
    path: () => '/publish/batch',
    body: (random) => ({ type: 'application/x-ndjson', bytes: linesText(random) }),
  },
  { method: 'POST', path: () => '/request', query: { timeout: TIMEOUT }, body: MESSAGE },
  { method: 'POST', path: () => '/request', query: { topic: plainTopic, timeout: TIMEOUT, ...RAW }, body: BYTES },
  { method: 'GET', path: () => '/subscribe', query: STREAM },
  {
    method: 'GET',
    path: () => '/subscribe',
    query: { ...STREAM, session: (random) => `fuzz-${random.integer(1, 5)}` },
  },
  { method: 'GET', path: () => '/retained', query: { topic: plainFilter, encoding: () => 'json' } },
  { method: 'DELETE', path: () => '/retained', query: { topic: plainTopic } },
  { method: 'GET', path: () => '/sessions' },
  {
    method: 'POST',
    path: (random) => `${sessionPath(random)}/ack`,
    body: (random) => ({ type: 'application/json', bytes: ackText(random) }),
  },
  { method: 'DELETE', path: sessionPath },
  { method: 'POST', path: () => '/cookie' },
  { method: 'DELETE', path: () => '/cookie' },
  {
    method: 'GET',
    path: (random) =>
      random.pick([
        '/livez',
        '/readyz',
        '/metrics',
        '/openapi.json',
        '/',
        '/docs',
        '/docs/static/swagger-ui.css',
        '/docs/static/index.html',
      ]),
  },
  {
    method: 'GET',
    path: (random) =>
      random.pick([
        '/docs/static/../../../etc/passwd',
        '/docs/static/%2e%2e/%2e%2e/package.json',
        '/docs/static/..%2f..%2fpackage.json',
        '/%',
        '//',
        '/publish/',
        '//evil.example/publish',
        '/PUBLISH',
        '*',
        'http://evil.example/livez',
        '/livez;a=b',
        '/livez#x',
        '/%00',
        `/${'x'.repeat(3000)}`,
      ]),
  },
]
const METHODS = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
  'TRACE',
  'PROPFIND',
  'SEARCH',
  'get',
  'FOO',
  'QUERY',
]

export function someRequest(random: Random, credentials: readonly string[]): FuzzRequest {
  const route = random.pick(ROUTES)
  const method = random.chance(0.93) ? route.method : random.pick(METHODS)
  const path = route.path(random) + query(random, route.query ?? {})
  const other = random.chance(0.04) ? random.pick(ROUTES).body : route.body
  const body = other?.(random) ?? (random.chance(0.03) ? { type: 'text/plain', bytes: randomBytes(random) } : undefined)
  const headers = [
    'Host: 127.0.0.1',
    ...(credentials.length > 0 && random.chance(0.9) ? [random.pick(credentials)] : []),
    ...someHeaders(random),
  ]
  if (body !== undefined && random.chance(0.95)) headers.push(`Content-Type: ${body.type}`)
  return { method, path, bytes: frame(random, `${method} ${path} HTTP/1.1`, headers, body?.bytes) }
}

function query(random: Random, parameters: NonNullable<Route['query']>): string {
  const pairs: string[] = []
  for (const [name, value] of Object.entries(parameters)) {
    const isNeeded = name === 'topic' || name === 'session' || name === 'timeout'
    if (!random.chance(isNeeded ? 0.97 : 0.2)) continue
    for (let times = random.chance(0.05) ? 2 : 1; times > 0; times -= 1) {
      pairs.push(`${name}=${encoded(random, random.chance(0.93) ? value(random) : nastyText(random).slice(0, 1000))}`)
    }
  }
  if (random.chance(0.04)) {
    const text = () => encoded(random, nastyText(random).slice(0, 100))
    const [name, value] = [text(), text()]
    pairs.push(`${name}${random.chance(0.8) ? '=' : ''}${value}`)
  }
  return pairs.length > 0 ? `?${pairs.join('&')}` : ''
}

function frame(random: Random, line: string, headers: string[], body: Buffer | undefined): Buffer {
  const [framing, content] =
    body === undefined
      ? [[], []]
      : random.chance(0.7)
        ? [[`Content-Length: ${body.length}`], [body]]
        : [['Transfer-Encoding: chunked'], chunks(random, body)]
  const head = [line, ...random.some(headers, headers.length), ...framing, '', ''].join('\r\n')
  return Buffer.concat([Buffer.from(head, 'latin1'), ...content])
}

function chunks(random: Random, body: Buffer): Buffer[] {
  const parts: Buffer[] = []
  for (let at = 0; at < body.length;) {
    const part = body.subarray(at, at + random.integer(1, Math.max(1, body.length)))
    const extension = random.chance(0.05) ? ';a="b"' : ''
    parts.push(Buffer.from(`${part.length.toString(16)}${extension}\r\n`), part, Buffer.from('\r\n'))
    at += part.length
  }
  return [...parts, Buffer.from(random.chance(0.05) ? '0\r\nX-Trailer: a\r\n\r\n' : '0\r\n\r\n')]
}
