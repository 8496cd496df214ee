import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const ROOT = resolve(import.meta.dirname, '../src')

/**
 * The files and folders below `src` that the files of each room may import. A file belongs to the room with the longest
 * path that contains it, and may always import from its own room.
 */
const ROOMS: Record<string, string[]> = {
  'main.ts': [
    'command',
    'config',
    'auth/token',
    'serve.ts',
    'workers',
    'notices.ts',
    'start-flags.ts',
    'stream-buffers.ts',
  ],
  'serve.ts': ['app.ts', 'tracing', 'config', 'shutdown.ts', 'logger.ts', 'notices.ts', 'workers/worker.ts'],
  'logger.ts': ['config', 'log-destination.ts'],
  'notices.ts': ['node-support.ts'],
  workers: ['close-listener.ts', 'config', 'http/server/accepted-elsewhere.ts', 'logger.ts', 'metrics', 'notices.ts'],
  // For browsers; only its own files go there.
  console: [],
  command: ['config', 'auth/create.ts', 'mqtt', 'push/push-files.ts', 'redis'],
  'log-destination.ts': [],
  'node-support.ts': [],
  'close-listener.ts': [],
  'start-flags.ts': [],
  'stream-buffers.ts': [],
  'app.ts': [
    'cluster/cluster.ts',
    'config',
    'metrics.ts',
    'redis',
    'auth/create.ts',
    'links',
    'http',
    'mqtt',
    'push',
    'workers',
  ],
  cluster: ['errors.ts', 'mqtt'],
  config: [],
  'errors.ts': [],
  'json-text.ts': [],
  'lazy.ts': [],
  'schema-type.ts': [],
  'metrics.ts': [
    'metrics',
    'cluster/messages.ts',
    'errors.ts',
    'http/message/idempotency.ts',
    'mqtt/connection/broker.ts',
    'mqtt/publish/publisher.ts',
    'mqtt/requester.ts',
    'push/delivery.ts',
    'stream',
  ],
  metrics: [],
  'trace-context.ts': [],
  'tracing/tracing.ts': ['mqtt/message.ts'],
  'tracing/open-telemetry.ts': ['tracing/tracing.ts', 'mqtt/message.ts', 'errors.ts'],
  'shutdown.ts': [],
  links: ['cluster', 'config', 'errors.ts', 'metrics.ts', 'auth', 'mqtt', 'stream'],
  auth: ['errors.ts', 'mqtt/topic.ts'],
  'auth/create.ts': ['config', 'auth'],
  'auth/token': [
    'auth/rules.ts',
    'auth/identity.ts',
    'auth/authenticator.ts',
    'auth/credentials.ts',
    'auth/challenge.ts',
    'mqtt/topic.ts',
  ],
  http: [],
  'http/index.ts': ['config', 'metrics.ts', 'redis', 'auth', 'links', 'http', 'mqtt'],
  'http/routes': [
    'http/message',
    'http/guard',
    'http/server/disconnects.ts',
    'http/server/read-body.ts',
    'auth',
    'mqtt',
    'push/info.ts',
    'stream',
    'errors.ts',
  ],
  'http/guard': ['redis', 'http/message', 'http/server/disconnects.ts', 'auth', 'stream', 'errors.ts'],
  'http/message': [
    'redis',
    'http/server/disconnects.ts',
    'http/server/read-body.ts',
    'http/server/small-pieces.ts',
    'mqtt',
    'stream',
    'errors.ts',
  ],
  'http/server': ['close-listener.ts', 'http/message', 'auth/network.ts', 'errors.ts'],
  mqtt: ['errors.ts'],
  push: ['cluster/envelope.ts', 'config', 'errors.ts', 'mqtt', 'stream/sessions'],
  'push/create.ts': ['cluster/envelope.ts', 'config', 'metrics.ts', 'links', 'mqtt', 'push'],
  memory: [],
  redis: [],
  stream: [],
}

const files = (readdirSync(ROOT, { recursive: true, encoding: 'utf8' }) as string[])
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, text: readFileSync(join(ROOT, name), 'utf8') }))

const liesIn = (name: string, room: string) => name === room || name.startsWith(`${room}/`)
const roomOf = (name: string) =>
  Object.keys(ROOMS)
    .filter((room) => liesIn(name, room))
    .sort((a, b) => b.length - a.length)[0]
const importsOf = (text: string) =>
  [...text.matchAll(/^(?:import '|(?:import|export|\}) [^']*?from ')([^'\n]+)'|\bimport\(\s*'([^']+)'/gm)].map(
    (match) => (match[1] ?? match[2])!,
  )
/** The files that import a module whose name matches. */
const importing = (packages: RegExp) =>
  files.filter(({ text }) => importsOf(text).some((path) => packages.test(path))).map(({ name }) => name)

test.each(files)('$name imports only what its room may', ({ name, text }) => {
  const room = roomOf(name)
  expect(room, `${name} lies in no known room`).toBeDefined()
  const foreign = importsOf(text)
    .filter((path) => path.startsWith('.'))
    .map((path) => relative(ROOT, resolve(ROOT, dirname(name), path)))
    .filter(
      (target) =>
        ![
          room!,
          'memory',
          'json-text.ts',
          'lazy.ts',
          'schema-type.ts',
          'trace-context.ts',
          'tracing/tracing.ts',
          ...ROOMS[room!]!,
        ].some((allowed) => liesIn(target, allowed)),
    )
  expect(foreign).toEqual([])
})

test('imports are found however they are written', () => {
  const text =
    "import 'a'\nimport b from 'b'\nimport {\n  c,\n} from 'c'\nexport { d } from 'd'\n" +
    "import type { E } from 'e'\nconst f = await import('f')\nconst from = 'g'\n"
  expect(importsOf(text)).toEqual(['a', 'b', 'c', 'd', 'e', 'f'])
})

test('streams need nothing but Node and a bounded map, and the broker side knows no HTTP', () => {
  expect(importing(/^(?!\.|node:|lru-cache$)|^node:http/).filter((name) => liesIn(name, 'stream'))).toEqual([])
  expect(importing(/fastify|^node:http/).filter((name) => liesIn(name, 'mqtt'))).toEqual([])
})

test('only mqtt/client touches the MQTT client; of its packets only the embedded broker knows too', () => {
  const touching = importing(/^mqtt$/)
  expect(touching.length).toBeGreaterThan(0)
  expect(touching.filter((name) => !liesIn(name, 'mqtt/client'))).toEqual([])
  const ofPackets = importing(/^mqtt-packet$/).filter((name) => !liesIn(name, 'mqtt/client'))
  expect(ofPackets.filter((name) => !liesIn(name, 'mqtt/embedded'))).toEqual([])
})

test('mqtt-packet is silenced before anything loads it', () => {
  const loading = files.filter(({ text }) =>
    [...text.matchAll(/^(import [^;]*?from |import )'(mqtt|mqtt-packet)'/gm)].some(
      ([, head]) => !head!.startsWith('import type'),
    ),
  )
  expect(loading.length).toBeGreaterThan(0)
  const late = loading.filter(({ text }) => !importsOf(text)[0]!.endsWith('/silent-packets.ts'))
  expect(late.map(({ name }) => name)).toEqual([])
})

test('only the entry points touch the process', () => {
  const touching = files
    .filter(({ text }) => /(?<![\w.'"])process\.(?!version\b|nextTick\b)\w+/.test(text.replace(/(\/\/|\*).*$/gm, '')))
    .map(({ name }) => name)
  expect(touching.filter((name) => name !== 'shutdown.ts')).toEqual([
    'logger.ts',
    'main.ts',
    'serve.ts',
    'workers/run-parent.ts',
    'workers/worker.ts',
  ])
})

test('no line is longer than 120 characters', () => {
  const long = files.flatMap(({ name, text }) =>
    text.split('\n').flatMap((line, index) => (line.length > 120 ? [`${name}:${index + 1}`] : [])),
  )
  expect(long).toEqual([])
})

test('no file is named for nothing in particular', () => {
  const named = files.filter(({ name }) => /^(utils?|helpers?|common|types|index)\.ts$/.test(basename(name)))
  // http/index.ts registers every route in one visible order; it exports nothing of other files.
  expect(named.map(({ name }) => name)).toEqual(['http/index.ts'])
})
