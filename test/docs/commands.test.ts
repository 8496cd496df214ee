import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startBridge } from '../support/bridge.ts'
import { type Fence, fencesOf, pages, ROOT } from '../support/documents.ts'
import { openStream } from '../support/stream.ts'

/*
 * Every block of commands (`sh`) in the documents is run against a bridge, page by page and from top to bottom, unless
 * the first line of the block says `not-run` and why. `endless` is for a command that does not end by itself: it has
 * worked as soon as it has written something.
 */
const documents = pages()
  .filter(({ path }) => path === 'README.md' || path.startsWith('docs/'))
  .map((page) => ({ path: page.path, blocks: fencesOf(page).filter(({ language }) => language === 'sh') }))
const runnable = ({ mark }: Fence) => !mark.startsWith('not-run')

/** The programs as in the documents, but an error as answer fails, nothing waits for ever, and pipes are not buffered. */
const PROGRAMS = `
  curl() { command curl -sS --fail-with-body --max-time 20 "$@"; }
  jq() { command jq --unbuffered "$@"; }
  set -o pipefail
`

/** Of languages in which a page has lines that publish. */
const INTERPRETERS: Record<string, string[]> = {
  js: [process.execPath, '--input-type=module', '-e'],
  python: ['python3', '-c'],
}

/** Runs commands until they end; `endless` ones until they write something. Rejects when they fail. */
async function run({ place, mark, text }: Fence, base: string): Promise<string> {
  const script = PROGRAMS + text.replaceAll('localhost:8080', base.replace('http://', ''))
  const child = spawn('bash', ['-ec', script], { detached: true, cwd: ROOT })
  const end = () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL')
  }
  onTestFinished(end)
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk
      if (mark === 'endless' && stream === child.stdout) end()
    })
  }
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  if (mark === 'endless' ? signal !== 'SIGKILL' : code !== 0) throw new Error(`${place} ended with ${code}: ${output}`)
  return output
}

describe.each(documents.filter(({ blocks }) => blocks.some(runnable)))('$path', ({ blocks }) => {
  test('its commands work', async () => {
    const { url } = await startBridge()
    for (const block of blocks.filter(runnable)) expect(await run(block, url), block.place).not.toBe('')
  })
})

test('the lines that publish work in each language', async () => {
  const { url } = await startBridge()
  const stream = await openStream(`${url}/subscribe?topic=home/temp`)
  const lines = pages()
    .flatMap(fencesOf)
    .filter(({ language, text }) => language in INTERPRETERS && /^(await fetch|import urllib)/.test(text))
  expect(lines.map(({ language }) => language)).toEqual(expect.arrayContaining(['js', 'python']))
  for (const { language, text } of lines.filter((block) => !block.text.includes("fetch('/"))) {
    const [file, ...args] = INTERPRETERS[language]!
    await promisify(execFile)(file!, [...args, text.replaceAll('http://localhost:8080', url)])
    expect((await stream.next()).data).toMatchObject({ topic: 'home/temp', payload: '21.5' })
  }
})

test('code in other languages is run by a test, or says why not', () => {
  const included = /<!-- file (\S+), written/
  const hidden = pages().flatMap((page) => {
    // Whole programs of examples are run by test/clients.
    const own = page.text
      .split(/(?=<!-- file )/)
      .map((part) => (included.test(part) ? part.split('<!-- end of file -->')[1]! : part))
    return fencesOf({ ...page, text: own.join('') })
      .filter(({ language }) => ['js', 'ts', 'python', 'go', 'java', 'bash'].includes(language))
      .filter(({ mark, text }) => !/^(await fetch\('http|import urllib)/.test(text) && !isShownToRun(mark))
      .map(({ text }) => `${page.path}: ${text.split('\n')[0]}`)
  })
  expect(hidden).toEqual([])
})

/** `not-run` and why, or `run-by` and the file that runs it. */
function isShownToRun(mark: string): boolean {
  const by = /^run-by (\S+)$/.exec(mark)
  return by === null ? /^not-run .{5,}/.test(mark) : existsSync(ROOT + by[1]!)
}

test('there are commands, and each mark is one that this test knows', () => {
  const blocks = documents.flatMap((page) => page.blocks)
  expect(blocks.filter(runnable).length).toBeGreaterThan(10)
  for (const { place, mark } of blocks) expect(mark, place).toMatch(/^($|endless$|not-run .{5,})/)
})

test('what is shown as JSON is JSON', () => {
  const blocks = pages()
    .flatMap(fencesOf)
    .filter(({ language }) => language === 'json')
  expect(blocks.length).toBeGreaterThan(3)
  for (const { place, text } of blocks) expect(() => JSON.parse(text), place).not.toThrow()
})
