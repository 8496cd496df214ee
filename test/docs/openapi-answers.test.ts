import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { startBridge } from '../support/bridge.ts'
import { openStream } from '../support/stream.ts'

const document = parse(readFileSync(new URL('../../openapi/openapi.yaml', import.meta.url), 'utf8'))
const ajv = new Ajv2020({ strict: false, validateFormats: false })
ajv.addSchema(document, 'openapi')

/** What is wrong with a value that should be one of a schema of the document. */
function faultsOf(name: string, value: unknown): unknown {
  const validate = ajv.getSchema(`openapi#/components/schemas/${name}`)!
  return validate(value) ? [] : [value, validate.errors]
}

test('what the bridge answers is what the document says', async () => {
  const { url } = await startBridge()
  const json = { 'Content-Type': 'application/json' }
  const post = async (path: string, body: string, headers: object = json) =>
    (await fetch(url + path, { method: 'POST', headers: { ...headers }, body })).text()
  const messages = [{ topic: 'a', payload: '1', retain: true }, { topic: 'a/#' }, { topic: 'b', qos: 0 }]

  expect(faultsOf('PublishResult', JSON.parse(await post('/publish?topic=a', '1')))).toEqual([])
  expect(faultsOf('Problem', JSON.parse(await post('/publish?topic=a/%23', '1')))).toEqual([])
  for (const result of JSON.parse(await post('/publish/batch', JSON.stringify(messages)))) {
    expect(faultsOf('BatchResult', result)).toEqual([])
  }
  const lines = messages.map((message) => `${JSON.stringify(message)}\n`).join('')
  const answer = await post('/publish/batch', lines, { 'Content-Type': 'application/x-ndjson' })
  const results = answer
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
  expect(results).toHaveLength(4)
  for (const result of results.slice(0, -1)) expect(faultsOf('BatchResult', result)).toEqual([])
  expect(faultsOf('BatchEnd', results.at(-1))).toEqual([])
  for (const message of (await (await fetch(`${url}/retained?topic=%23`)).json()) as unknown[]) {
    expect(faultsOf('Message', message)).toEqual([])
  }
  const plain = await openStream(`${url}/subscribe?topic=%23&lastEventId=unknown`)
  const session = await openStream(`${url}/subscribe?topic=%23&session=s&ack=explicit`)
  const events = [await plain.opening, ...(await plain.take(2)), ...(await session.take(2))]
  expect(events.map(({ event }) => event)).toEqual(['status', 'gap', 'message', 'session', 'message'])
  for (const event of events) expect(faultsOf('Event', event)).toEqual([])
  expect(faultsOf('Session', ((await (await fetch(`${url}/sessions`)).json()) as unknown[])[0])).toEqual([])
})

test('an event that is none of the document’s is refused', () => {
  expect(faultsOf('Event', { event: 'gap', data: { reason: 'new' } })).not.toEqual([])
})
