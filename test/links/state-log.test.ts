import { pino } from 'pino'
import { expect, test } from 'vitest'
import { CausewayError } from '../../src/errors.ts'
import { LimitedLog } from '../../src/links/limited-log.ts'
import { BrokerStateLog } from '../../src/links/state-log.ts'
import { metric, startBridge } from '../support/bridge.ts'
import { publish } from '../support/http.ts'
import { startProxy } from '../support/proxy.ts'
import { startScriptedBroker } from '../support/scripted-broker.ts'
import { openSession } from '../support/session.ts'
import { openStream } from '../support/stream.ts'

function newLog() {
  const lines: Record<string, unknown>[] = []
  const logger = pino({ base: null, timestamp: false }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  return { lines, logger, log: new LimitedLog(logger) }
}

const AT = { address: 'mqtt://one:1883', version: 5 } as const
const because = (reason: string) => ({ ...AT, cause: new CausewayError('broker-unavailable', reason) })

test('of one kind there is a line at once, and then one for the rest, with their number', async () => {
  const { lines, log } = newLog()
  for (let count = 1; count <= 5; count += 1) log.warn('gap', { count }, 'a gap')
  log.info('other', {}, 'something else')
  expect(lines).toEqual([
    { level: 40, count: 1, msg: 'a gap' },
    { level: 30, msg: 'something else' },
  ])
  await expect.poll(() => lines.slice(2), { timeout: 5000 }).toEqual([{ level: 40, count: 5, more: 4, msg: 'a gap' }])
})

test('an outage is one warning, and its end one line with the last reason', () => {
  const { lines, logger, log } = newLog()
  const states = new BrokerStateLog(log, logger)
  states.changed('a', 'connected', AT)
  states.changed('a', 'disconnected', because('refused'))
  states.changed('b', 'disconnected', because('refused'))
  states.changed('a', 'disconnected', because('refused'))
  // Within a second of the first warning, so this one waits; its reason is the last one all the same.
  states.changed('b', 'disconnected', because('no password'))
  states.changed('a', 'connected', AT)
  expect(lines.map(({ msg }) => msg)).toEqual([
    'connected to mqtt://one:1883, MQTT 5',
    'the broker at mqtt://one:1883 over MQTT 5 cannot be reached; trying again until it can',
    'a connection to mqtt://one:1883, MQTT 5 is back',
  ])
  states.changed('b', 'connected', { ...AT, version: 4 })
  expect(lines.at(-1)).toMatchObject({
    msg: 'connected to mqtt://one:1883, MQTT 3.1.1',
    lastReason: 'no password',
    awayMs: expect.any(Number),
  })
})

test('the connections of a start are one line', () => {
  const { lines, logger, log } = newLog()
  const states = new BrokerStateLog(log, logger)
  for (const connection of ['a', 'b', 'c']) states.changed(connection, 'connected', AT)
  expect(lines.map(({ msg }) => msg)).toEqual(['connected to mqtt://one:1883, MQTT 5'])
})

test('gaps, quick reconnects, sessions and unanswered publishes are logged', async () => {
  const broker = await startScriptedBroker((packet) => packet.cmd === 'publish' && packet.topic === 'unanswered')
  const proxy = await startProxy(broker.url)
  const bridge = await startBridge({ MQTT_URL: proxy.url, PUBLISH_TIMEOUT_MS: 300 })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&qos=0&retained=false`)
  await openSession(bridge)
  expect((await publish(bridge, { topic: 'unanswered' })).status).toBe(504)
  proxy.cut()
  await expect.poll(() => stream.events.map(({ event }) => event)).toContain('gap')
  await expect.poll(() => metric(bridge, 'causeway_mqtt_reconnects_total{role="session"}')).toBe(1)
  const lines = () => bridge.logs.map(({ msg, reason, status }) => ({ msg, reason, status }))
  for (const line of [
    { msg: 'messages may be missing in a stream', reason: 'broker-connection-lost' },
    { msg: `a connection to ${proxy.url} was lost; connecting again` },
    { msg: `a connection to ${proxy.url}, MQTT 5 is back` },
    { msg: "a session's connection is connected" },
    { msg: "a session's connection is reconnecting" },
    { msg: 'a publish failed', status: 504 },
  ]) {
    await expect.poll(lines, { timeout: 5000 }).toContainEqual(expect.objectContaining(line))
  }
})
