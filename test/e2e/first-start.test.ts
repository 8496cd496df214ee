import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'

const scripts = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).scripts as Record<
  string,
  string
>

const RESPONDER = fileURLToPath(new URL('../../examples/responder.mjs', import.meta.url))

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

test('a first start has everything: the responder of the examples answers a request, and a topic is nobody’s', async () => {
  const bridge = spawnBridge()
  const base = await bridge.url
  await expect.poll(() => bridge.stdout()).toContain('embedded broker')
  const [brokerUrl] = /mqtt:\/\/127\.0\.0\.1:\d+/.exec(bridge.stdout())!
  const responder = spawn(process.execPath, [RESPONDER, brokerUrl, 'home/door'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void responder.kill('SIGKILL'))
  expect(String(await once(responder.stdout, 'data'))).toContain('answering requests on home/door')
  const { stdout } = await run(`curl -sS -d open '${base}/request?topic=home/door&timeout=5000'`)
  expect(stdout).toBe('home/door: open')
  expect(JSON.parse((await run(`curl -sS -d 21.5 '${base}/publish?topic=nobody'`)).stdout)).toMatchObject({
    reasonCode: 0x10,
    matchedSubscribers: false,
  })
  expect((await run(`curl -sS -d open '${base}/request?topic=nobody'`)).stdout).toContain('"no-responder"')
})

test('npm start builds before it starts', () => {
  expect(scripts['prestart']).toContain('build')
  expect(scripts['start']).toBe('node dist/main.js')
})
