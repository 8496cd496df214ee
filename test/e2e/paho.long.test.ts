import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test } from 'vitest'
import { brokerUrl, BROKERS, startBridge } from '../support/bridge.ts'
import { publish } from '../support/http.ts'
import { openStream } from '../support/stream.ts'

const PYTHON = '/usr/bin/python3'
const hasPaho = spawnSync(PYTHON, ['-c', 'import paho.mqtt.client']).status === 0
if (!hasPaho && process.env['CAUSEWAY_TEST_REQUIRE_MOSQUITTO']) {
  throw new Error('python3-paho-mqtt is required and not installed')
}

/** A program with Eclipse Paho, an MQTT client that shares no code with the bridge's. It ends with the test. */
function paho(script: string, port: string, count: number) {
  const child = spawn(PYTHON, [fileURLToPath(new URL(script, import.meta.url)), port, String(count)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  return { lines: createInterface(child.stdout)[Symbol.asyncIterator](), exited: once(child, 'exit') }
}

describe.skipIf(!hasPaho).each(BROKERS)('on $name', ({ start }) => {
  test('what a paho publisher sends to `test` arrives in a stream', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const stream = await openStream(`${bridge.url}/subscribe?topic=test&encoding=json`)
    const publisher = paho('paho_publisher.py', new URL(brokerUrl(bridge, settings)).port, 5)
    const events = await stream.take(5)
    expect(events.map(({ data }) => [data.topic, data.payload])).toEqual(
      Array.from({ length: 5 }, (_, number) => ['test', { number, from: 'paho' }]),
    )
    expect(await publisher.exited).toEqual([0, null])
  })

  test('what is posted to `test` is printed by a paho subscriber', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const subscriber = paho('paho_subscriber.py', new URL(brokerUrl(bridge, settings)).port, 5)
    expect((await subscriber.lines.next()).value).toBe('subscribed')
    for (let number = 0; number < 5; number += 1) {
      expect((await publish(bridge, { topic: 'test', payload: { number, from: 'http' } })).status).toBe(200)
      expect(JSON.parse((await subscriber.lines.next()).value!)).toEqual({ number, from: 'http' })
    }
    expect(await subscriber.exited).toEqual([0, null])
  })
})
