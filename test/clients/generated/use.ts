/*
 * Uses a bridge by a client in TypeScript whose types are generated from openapi.yaml, and prints what came of it.
 * Compiled and run by test/clients/generated.long.test.ts; it shows as well that the types fit.
 */
import createClient from 'openapi-fetch'
import type { components, paths } from './schema.js'

declare const process: { argv: string[] }
declare const console: { log(text: string): void }

type Message = components['schemas']['Message']

const client = createClient<paths>({ baseUrl: process.argv[2]! })
const json = { Accept: 'application/json' }
const message: Message = { topic: 'home/temp', payload: { celsius: 21.5 }, retain: true }

const published = await client.POST('/publish', { body: message })
const raw = await client.POST('/publish', {
  params: { query: { topic: 'home/raw', retain: true } },
  body: 'a text that is no JSON',
  bodySerializer: (body) => body,
  headers: { 'Content-Type': 'application/octet-stream' },
})
const batch = await client.POST('/publish/batch', { body: [message, { topic: 'not/#' }] })
// In NDJSON the answer would be a text.
const results = (Array.isArray(batch.data) ? batch.data : []).map((result) =>
  'problem' in result ? result.problem.code : `${result.status} ${result.topic}`,
)
const all = await client.GET('/retained', { params: { query: { topic: 'home/#' } }, headers: json })
const one = await client.GET('/retained', { params: { query: { topic: 'home/raw' } }, headers: json })
const bytes = await client.GET('/retained', { params: { query: { topic: 'home/raw' } }, parseAs: 'text' })
const deleted = await client.DELETE('/retained', { params: { query: { topic: 'home/temp' } } })
const wrong = await client.POST('/publish', { body: { topic: 'not/#' } })
const sessions = await client.GET('/sessions')

const topics = (messages: Message[] | string | undefined) =>
  Array.isArray(messages) ? messages.map(({ topic }) => topic).sort() : messages
console.log(
  JSON.stringify({
    published: published.data?.topic,
    raw: raw.data?.qos,
    batch: results,
    all: topics(all.data),
    one: topics(one.data),
    bytes: bytes.data,
    deleted: deleted.data?.topic,
    wrong: [wrong.error?.code, wrong.error?.errors?.[0]?.pointer],
    sessions: sessions.data?.map(({ name }) => name),
  }),
)
