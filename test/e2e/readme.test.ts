import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { openStream } from '../support/stream.ts'

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
/** The README's commands that can be pasted as they are, in order. */
const commands = [...readme.matchAll(/```sh\n(.*?)```/gs)]
  .flatMap((block) => block[1]!.trim().split('\n'))
  .filter((line) => line.includes('curl '))
const scripts = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).scripts as Record<
  string,
  string
>

const run = async (command: string) => promisify(execFile)('bash', ['-c', command])

test('the commands of the README work as it says', async () => {
  const base = await spawnBridge().url
  const here = (command: string) => command.replaceAll('localhost:8080', base)
  expect(commands.length).toBeGreaterThan(7)
  const isEndless = (command: string) => command.includes('/subscribe?')
  const [follow, ...sessions] = commands.filter(isEndless)
  const topic = /topic=([^']+)/.exec(follow!)![1]
  const stream = await openStream(`${base}/subscribe?topic=${topic}`)

  for (const command of commands.filter((each) => !isEndless(each))) {
    const { stdout } = await run(here(command).replaceAll('curl ', 'curl -sS --fail-with-body --max-time 10 '))
    expect(stdout, command).not.toBe('')
  }

  expect((await stream.next()).data).toMatchObject({ topic: 'home/temp', payload: '21.5' })
  // Streams do not end by themselves, so these commands get a time limit.
  const beginningOf = async (command: string) =>
    (await run(`${here(command).replace('curl ', 'timeout 2 curl -sS ')} || true`)).stdout
  expect(await beginningOf(follow!)).toMatch(/^retry: \d+\nevent: status\nid: /)
  expect(sessions.length).toBeGreaterThan(0)
  for (const session of sessions) expect(await beginningOf(session)).toMatch(/^retry: \d+\nevent: session\nid: /)
})

test('the log of a first start has commands to publish and subscribe, and the URLs of metrics and docs', async () => {
  const bridge = spawnBridge()
  const base = await bridge.url
  await expect.poll(() => bridge.stdout()).toContain('docs:')
  const lines = bridge
    .stdout()
    .trim()
    .split('\n')
    .map((line) => String(JSON.parse(line).msg))
  const publish = lines.find((line) => line.startsWith('publish:'))!
  expect(publish).toContain(base)
  expect(JSON.parse((await run(publish.replace(/^publish: +/, '').replace('curl', 'curl -sS'))).stdout)).toMatchObject({
    topic: 'home/temp',
  })
  for (const [name, path] of [
    ['metrics', '/metrics'],
    ['docs', '/docs'],
  ]) {
    const url = lines.find((line) => line.startsWith(`${name}:`))!.replace(/^\w+: +/, '')
    expect(url).toBe(base + path)
    expect((await fetch(url)).status).toBe(200)
  }
})

test('npm start builds before it starts', () => {
  expect(scripts['prestart']).toContain('build')
  expect(scripts['start']).toBe('node dist/main.js')
})
