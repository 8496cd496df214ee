import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const ROOT = resolve(import.meta.dirname, '../src')

/** What each part may import of ours. Files right under src are parts of their own. */
const ALLOWED: Record<string, string[]> = {
  'main.ts': ['app.ts', 'config.ts', 'shutdown.ts'],
  'app.ts': ['authenticators.ts', 'broker-links.ts', 'broker-log.ts', 'certificates.ts', 'config.ts', 'connection-options.ts', 'link.ts', 'links.ts', 'metrics.ts', 'routes.ts', 'mqtt'],
  'routes.ts': ['config.ts', 'metrics.ts', 'link.ts', 'access.ts', 'auth', 'http'],
  'access.ts': ['link.ts', 'auth', 'mqtt', 'stream'],
  'authenticators.ts': ['config.ts', 'auth'],
  'links.ts': ['link.ts', 'auth', 'mqtt'],
  'caller-links.ts': ['broker-log.ts', 'errors.ts', 'link.ts', 'auth'],
  'broker-links.ts': ['broker-log.ts', 'caller-links.ts', 'config.ts', 'connection-options.ts', 'link.ts', 'links.ts', 'metrics.ts', 'auth', 'mqtt'],
  'connection-options.ts': ['config.ts', 'mqtt'],
  'certificates.ts': ['config.ts', 'http'],
  'lazy.ts': [],
  'link.ts': ['broker-log.ts', 'config.ts', 'connection-options.ts', 'lazy.ts', 'errors.ts', 'metrics.ts', 'mqtt', 'stream'],
  'broker-log.ts': ['errors.ts', 'mqtt'],
  http: ['http', 'auth', 'mqtt', 'stream', 'errors.ts'],
  auth: ['auth', 'mqtt', 'errors.ts'],
  mqtt: ['mqtt', 'errors.ts'],
  stream: ['stream'],
  'token.ts': ['auth'],
  'config.ts': ['config-contradictions.ts'],
  'config-contradictions.ts': ['config.ts'],
  'errors.ts': [],
  'metrics.ts': [],
  'shutdown.ts': [],
}

const files = (readdirSync(ROOT, { recursive: true, encoding: 'utf8' }) as string[])
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, text: readFileSync(join(ROOT, name), 'utf8') }))

const partOf = (name: string) => (name.includes('/') ? name.split('/', 1)[0]! : name)
const importsOf = (text: string) => [...text.matchAll(/^(?:import '|(?:import|export|\}) [^']*?from ')([^'\n]+)'|\bimport\(\s*'([^']+)'/gm)].map((match) => (match[1] ?? match[2])!)
/** Files of a part that import a package, Node's own aside. */
const importing = (part: string, packageName: RegExp) => files.filter(({ name, text }) => partOf(name) === part && importsOf(text).some((path) => packageName.test(path))).map(({ name }) => name)

test.each(files)('$name imports only what its part may', ({ name, text }) => {
  const allowed = ALLOWED[partOf(name)]
  expect(allowed, `${name} belongs to no known part`).toBeDefined()
  const foreign = importsOf(text)
    .filter((path) => path.startsWith('.'))
    .map((path) => partOf(relative(ROOT, resolve(ROOT, dirname(name), path))))
    .filter((part) => !allowed!.includes(part))
  expect(foreign).toEqual([])
})

test('imports are found however they are written', () => {
  const text = "import 'a'\nimport b from 'b'\nimport {\n  c,\n} from 'c'\nexport { d } from 'd'\nimport type { E } from 'e'\nconst f = await import('f')\nconst from = 'g'\n"
  expect(importsOf(text)).toEqual(['a', 'b', 'c', 'd', 'e', 'f'])
})

test('streams need nothing but Node, and the broker side knows no HTTP', () => {
  expect(importing('stream', /^(?!\.|node:)|^node:http/)).toEqual([])
  expect(importing('mqtt', /fastify|^node:http/)).toEqual([])
})

test('one file imports the MQTT client', () => {
  expect(files.filter(({ text }) => importsOf(text).includes('mqtt')).map(({ name }) => name)).toEqual(['mqtt/network-connection.ts'])
})

test('a file touches the process only if it is one', () => {
  const touching = files.filter(({ text }) => /(?<![\w.'"])process\.(?!version\b|nextTick\b)\w+/.test(text.replace(/(\/\/|\*).*$/gm, '')))
  expect(touching.map(({ name }) => name).filter((name) => name !== 'shutdown.ts')).toEqual(['main.ts', 'token.ts'])
})

test('no file is longer than 250 lines or named for nothing in particular', () => {
  expect(files.filter(({ text }) => text.split('\n').length > 251).map(({ name }) => name)).toEqual([])
  expect(files.filter(({ name }) => /^(utils?|helpers?|common|types|index)\.ts$/.test(basename(name)))).toEqual([])
})
