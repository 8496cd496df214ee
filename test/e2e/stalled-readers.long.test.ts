import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { metric } from '../support/bridge.ts'
import { spawnBridge } from '../support/bridge-process.ts'
import { flow, PROCESS_BROKERS } from '../support/flow.ts'
import { mqttClient } from '../support/mqtt-client.ts'

/** 50 MB while everyone reads, until the garbage collector has found its level; then 200 MB. */
const WARM_UP = 1000
const MESSAGES = 4000
const STALLED = 100
const MAX_GROWTH_BYTES = 100_000_000
const POLICIES = ['gap', 'latest', 'close']

/** Asks for a stream; the socket reads nothing of it unless told to. */
async function openSocket(url: URL, query: string): Promise<Socket> {
  const socket = connect(Number(url.port), url.hostname)
  onTestFinished(() => void socket.destroy())
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write(`GET /subscribe?topic=a&${query} HTTP/1.1\r\nHost: ${url.host}\r\n\r\n`)
  return socket
}

/** A reader that counts events by the field that only messages have, which is cheaper than taking them apart. */
async function openCounter(url: URL): Promise<{ until(count: number): Promise<void>; text(): string }> {
  const socket = await openSocket(url, 'slow=gap')
  let count = 0
  let other = ''
  let rest = ''
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    const text = rest + chunk
    count += text.split('"payload":"').length - 1
    // Every stream begins with a status.
    other += text.replace('event: status', '').includes('event: ') ? text : ''
    // What may be the beginning of the field counts with the next chunk.
    rest = text.slice(-10)
  })
  return {
    text: () => other,
    async until(wanted) {
      while (count < wanted) await once(socket, 'data')
    },
  }
}

describe.each(PROCESS_BROKERS)('on $name', ({ start }) => {
  test('100 stalled readers and 200 MB need little memory, and readers that keep up lose nothing', async () => {
    const { settings, url: brokerUrl } = await start()
    const bridge = spawnBridge(settings)
    const url = new URL(await bridge.url)
    const open = () => metric({ adminUrl: url.origin }, 'causeway_streams_open{format="sse"}')
    const readers = await Promise.all([openCounter(url), openCounter(url), openCounter(url)])
    await expect.poll(open).toBe(readers.length)
    const client = await mqttClient(brokerUrl)
    const before = await flow(client, bridge.pid, readers, 0, WARM_UP)
    const stalled = await Promise.all(
      Array.from({ length: STALLED }, (_, index) => openSocket(url, `slow=${POLICIES[index % POLICIES.length]}`)),
    )
    for (const socket of stalled) socket.pause()
    await expect.poll(open).toBe(readers.length + STALLED)
    const most = await flow(client, bridge.pid, readers, WARM_UP, WARM_UP + MESSAGES)
    expect(most - before).toBeLessThan(MAX_GROWTH_BYTES)
    for (const reader of readers) expect(reader.text()).toBe('')
    expect(await open()).toBe(readers.length + STALLED)
  }, 120_000)
})
