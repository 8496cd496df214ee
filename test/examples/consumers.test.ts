import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test } from 'vitest'
import { freePort, hasMosquitto, startMosquitto } from '../support/broker.ts'
import { spawnBridge } from '../support/bridge-process.ts'

const example = (name: string) => fileURLToPath(new URL(`../../examples/${name}`, import.meta.url))
const CONSUMERS = [
  { name: 'consumer.mjs', command: process.execPath, needs: [] },
  { name: 'consumer.py', command: 'python3', needs: ['python3'] },
  { name: 'consumer.sh', command: 'bash', needs: ['curl', 'jq'] },
].filter(({ needs }) => needs.every((tool) => spawnSync(tool, ['--version']).error === undefined))

const publish = (base: string, body: string) => fetch(`${base}/publish?topic=orders/1`, { method: 'POST', body })

/** An example in a process of its own; it ends with the test. */
function startConsumer(command: string, name: string, base: string) {
  const child = spawn(command, [example(name), base, 'billing', 'orders/#'], { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (chunk: string) => (output += chunk))
  const exited = once(child, 'exit').then(([code]) => code as number | null)
  // The shell has children of its own.
  const kill = () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL')
  }
  onTestFinished(kill)
  return { exited, kill, lines: () => output.split('\n').map((line) => line.trim()).filter((line) => line.startsWith('orders/1')) }
}

describe.runIf(hasMosquitto).each(CONSUMERS)('the example $name', ({ command, name }) => {
  test('processes what comes, over its own death and the bridge’s, and stops where another reader takes over', { timeout: 60_000 }, async () => {
    const settings = { MQTT_URL: (await startMosquitto()).url, HTTP_PORT: await freePort() }
    const bridge = spawnBridge(settings)
    const base = await bridge.url
    const first = startConsumer(command, name, base)
    const isConnected = async () => ((await (await fetch(`${base}/sessions`)).json()) as { connected: boolean; unacknowledged: number }[])[0]
    await expect.poll(isConnected).toMatchObject({ connected: true })
    await publish(base, 'one')
    await expect.poll(first.lines).toEqual(['orders/1 one'])
    await expect.poll(isConnected).toMatchObject({ unacknowledged: 0 })
    first.kill()
    await first.exited
    await expect.poll(isConnected).toMatchObject({ connected: false })
    await publish(base, 'two')
    const second = startConsumer(command, name, base)
    await expect.poll(second.lines).toEqual(['orders/1 two'])
    await expect.poll(isConnected).toMatchObject({ unacknowledged: 0 })
    bridge.kill('SIGKILL')
    await bridge.exited
    await spawnBridge(settings).url
    await publish(base, 'three')
    await expect.poll(second.lines, { timeout: 20_000 }).toEqual(['orders/1 two', 'orders/1 three'])
    const third = startConsumer(command, name, base)
    expect(await second.exited).toBe(0)
    await publish(base, 'four')
    await expect.poll(third.lines).toContain('orders/1 four')
  })
})
