import { execFile } from 'node:child_process'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, onTestFinished, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { CACHE, CLIENTS, hasPackages, hasPython, PYTHON } from './installed.ts'

const run = promisify(execFile)
const DOCUMENT = join(CLIENTS, '../../openapi/openapi.yaml')

/** What both programs in `generated` print. */
const EXPECTED = {
  published: 'home/temp',
  raw: 1,
  batch: ['200 home/temp', 'invalid-request'],
  all: ['home/raw', 'home/temp'],
  one: ['home/raw'],
  bytes: 'a text that is no JSON',
  deleted: 'home/temp',
  wrong: ['invalid-request', '#/topic'],
  sessions: [],
}

async function temporaryFolder(parent: string): Promise<string> {
  const folder = await mkdtemp(join(parent, 'generated-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

test('the packages are installed where CI runs', () => {
  expect(hasPackages || process.env['CI'] !== 'true', 'run npm run clients:install').toBe(true)
})

describe('a client that is generated from openapi.yaml', { timeout: 180_000 }, () => {
  test.runIf(hasPackages)('in TypeScript fits its types, and does what it says', async () => {
    const { url } = spawnBridge()
    const base = await url
    const folder = await temporaryFolder(join(CLIENTS, 'node_modules'))
    const bin = (name: string) => join(CLIENTS, 'node_modules/.bin', name)
    await cp(join(CLIENTS, 'generated'), folder, { recursive: true })
    await run(bin('openapi-typescript'), [DOCUMENT, '-o', join(folder, 'schema.d.ts')])
    await run(bin('tsc'), ['-p', folder]).catch(({ stdout }: { stdout: string }) => expect(stdout).toBe(''))
    const { stdout } = await run(process.execPath, [join(folder, 'use.js'), base])
    expect(JSON.parse(stdout)).toEqual(EXPECTED)
  })

  // Its generator is of a registry that CI does not use; `npm run test:clients` fetches it.
  const inPython = 'in Python reads and writes what it says'
  if (hasPython) {
    test(inPython, async () => {
      const { url } = spawnBridge()
      const base = await url
      const folder = await temporaryFolder(CACHE)
      const output = ['--output-path', join(folder, 'causeway_client'), '--meta', 'none']
      await run(PYTHON, ['-m', 'openapi_python_client', 'generate', '--path', DOCUMENT, ...output])
      const { stdout } = await run(PYTHON, [join(CLIENTS, 'generated/use.py'), base], { env: { PYTHONPATH: folder } })
      expect(JSON.parse(stdout)).toEqual(EXPECTED)
    })
  }
})
