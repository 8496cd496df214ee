import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'

const scripts = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).scripts as Record<
  string,
  string
>

const run = async (command: string) => promisify(execFile)('bash', ['-c', command])

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
