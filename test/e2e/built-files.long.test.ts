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

test('causeway --help loads neither Fastify nor the MQTT client', async () => {
  const program = `
    import { createRequire } from 'node:module'
    await import(${JSON.stringify(pathToFileURL(distFile('main.js')))})
    console.log('loaded', Object.keys(createRequire(import.meta.url).cache).join(' '))`
  const [, loaded] = (await printedBy(program, 'main.js', '--help')).split('\nloaded ')
  expect(loaded).toMatch(/node_modules\/ajv\//)
  expect(loaded).not.toMatch(/node_modules\/(fastify|mqtt)\//)
})

test('the source map of a built file leads to the file of src', () => {
  const built = readFileSync(distFile('http.js'), 'utf8').split('\n')
  const line = built.findIndex((text) => text.startsWith('function problemDocument('))
  const map = new SourceMap(JSON.parse(readFileSync(distFile('http.js.map'), 'utf8')) as SourceMapPayload)
  expect(map.findEntry(line, 'function '.length)).toMatchObject({ originalSource: '../src/http/message/problem.ts' })
})
