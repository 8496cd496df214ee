import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { SourceMap, type SourceMapPayload } from 'node:module'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { distFile } from '../support/dist.ts'
import { plainEnvironment } from '../support/plain-environment.ts'

const run = promisify(execFile)

/** What a program, a module, prints. */
async function printedBy(program: string, ...args: string[]): Promise<string> {
  const options = { env: plainEnvironment() }
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program, '--', ...args], options)
  return stdout
}

test('the built bridge silences mqtt-packet before it loads it', async () => {
  const loaded = await printedBy(`
    import { createRequire } from 'node:module'
    await import(${JSON.stringify(pathToFileURL(distFile('app.js')))})
    console.log(Object.keys(createRequire(import.meta.url).cache).join('\\n'))`)
  const indexOf = (file: string) => loaded.split('\n').findIndex((path) => path.endsWith(`/node_modules/${file}`))
  expect(indexOf('debug/src/index.js')).toBeGreaterThanOrEqual(0)
  expect(indexOf('mqtt-packet/parser.js')).toBeGreaterThan(indexOf('debug/src/index.js'))
})

test('what only some requests or settings need is not loaded at the start', async () => {
  const program = `
    import { createRequire } from 'node:module'
    import { startApp } from ${JSON.stringify(pathToFileURL(distFile('app.js')))}
    import { loadConfig } from ${JSON.stringify(pathToFileURL(distFile('config/config.js')))}
    import { pino } from 'pino'
    const config = loadConfig({ CAUSEWAY_HTTP_PORT: '0', CAUSEWAY_EMBEDDED_PORT: '0' }, String)
    const app = await startApp({ config, readFile: String, logger: pino({ level: 'silent' }), version: '' })
    const loaded = () => [...new Set(Object.keys(createRequire(import.meta.url).cache)
      .map((path) => /.*\\/node_modules\\/((?:@[^/]+\\/)?[^/]+)/.exec(path)[1]))]
    const atStart = loaded()
    await fetch(app.url + '/openapi.json')
    await app.close()
    console.log(JSON.stringify({ atStart, afterRequest: loaded() }))`
  const { atStart, afterRequest } = JSON.parse(await printedBy(program)) as Record<string, string[]>
  expect(atStart).toEqual(expect.arrayContaining(['fastify', 'mqtt', 'prom-client']))
  const late = ['ajv', 'yaml', 'glob', 'jose', 'undici', 'ioredis', 'pino-pretty', '@fastify/swagger', '@fastify/cors']
  expect(atStart!.filter((name) => late.includes(name))).toEqual([])
  expect(afterRequest).toContain('@fastify/swagger')
})

test('causeway --help loads no package', async () => {
  const program = `
    import { createRequire } from 'node:module'
    await import(${JSON.stringify(pathToFileURL(distFile('main.js')))})
    console.log('loaded', Object.keys(createRequire(import.meta.url).cache))`
  expect(await printedBy(program, 'main.js', '--help')).toMatch(/CAUSEWAY_HTTP_PORT[^]*\nloaded \[\]\n$/)
})

test('the source map of a built file leads to the file of src', () => {
  const built = readFileSync(distFile('http.js'), 'utf8').split('\n')
  const line = built.findIndex((text) => text.startsWith('function problemDocument('))
  const map = new SourceMap(JSON.parse(readFileSync(distFile('http.js.map'), 'utf8')) as SourceMapPayload)
  expect(map.findEntry(line, 'function '.length)).toMatchObject({ originalSource: '../src/http/message/problem.ts' })
})

test('the built bridge has the calls whose result nobody needs, as they may throw', async () => {
  const env = { ...plainEnvironment(), CAUSEWAY_MQTT_URL: 'mqtt://user:se%cret@127.0.0.1:1' }
  const failed = await run(process.execPath, [distFile('main.js')], { env }).catch((error: unknown) => error)
  expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining('% is written as %25') })
})
