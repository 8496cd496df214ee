import { expect, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { pushFile } from '../support/push-endpoint.ts'
import { parseTargetsFile } from '../../src/push/targets-file.ts'

const SECRET = `whsec_${Buffer.alloc(24, 7).toString('base64')}`
const minimal = { name: 'hook', topics: ['a'], url: 'https://x.example/h?token=private' }
const FILES: Record<string, string> = {
  '/secret': `${SECRET} ${SECRET}\n`,
  '/headers': 'Authorization: Bearer private\r\n\nx-other: 1',
  '/forbidden': 'Host: private',
}

const parse = (content: unknown) =>
  parseTargetsFile(typeof content === 'string' ? content : JSON.stringify(content), {
    rules: { levelsMax: 5, allowDollar: false },
    readFile(path) {
      if (FILES[path] === undefined) throw Object.assign(new Error('private'), { code: 'ENOENT' })
      return FILES[path]
    },
  })

test('a target has these defaults', () => {
  expect(parse([minimal])).toEqual([
    {
      ...minimal,
      format: 'message',
      headers: {},
      keys: [],
      concurrency: 1,
      batch: 1,
      timeoutMs: 10_000,
      attempts: 0,
      retryMaxMs: 60_000,
      deadLetterTopic: undefined,
      retained: false,
    },
  ])
})

test('every field is taken, secrets and headers also from files', () => {
  const fields = {
    name: 'A-z.0_9',
    topics: ['a/#', '$share/g/b/+'],
    url: 'http://[::1]:8080',
    format: 'cloudevents',
    concurrency: 16,
    batch: 100,
    timeoutMs: 1,
    attempts: 5,
    retryMaxMs: 7,
    deadLetterTopic: 'dead/a',
    retained: true,
  }
  const [target] = parse([{ ...fields, headers: { 'X-A': '1' }, headersFile: '/headers', secretFile: '/secret' }])
  expect(target).toEqual({
    ...fields,
    headers: { 'X-A': '1', Authorization: 'Bearer private', 'x-other': '1' },
    keys: [Buffer.alloc(24, 7), Buffer.alloc(24, 7)],
  })
})

test.each<[unknown, RegExp | string]>([
  ['{', 'expected JSON'],
  [{}, 'expected an array of targets'],
  [[1], 'target 0: expected an object'],
  [[{}], /name: expected 1 to 64 .*, got none; target 0: topics: .*, got none; target 0: url: .*, got none/],
  [[minimal, minimal], 'target 1: name: expected one of its own, got that of an earlier target'],
  [[{ ...minimal, nmae: 1 }], /^target 0: expected only name, topics, .*, got "nmae"$/],
  [[{ ...minimal, name: 'a b' }], /^target 0: name: expected 1 to 64 of the characters .*, got "a b"$/],
  [[{ ...minimal, name: 'x'.repeat(65) }], /^target 0: name: /],
  [[{ ...minimal, topics: [] }], /^target 0: topics: expected an array of at least one topic filter, got \[\]$/],
  [
    [{ ...minimal, topics: ['a/#/b', '$SYS/#'] }],
    /^target 0: topics: "a\/#\/b" must have .*; target 0: topics: "\$SYS/,
  ],
  [[{ ...minimal, url: 'ftp://private' }], /^target 0: url: expected an http: or https: URL .*, not shown/],
  [[{ ...minimal, url: 'https://user:private@x.example' }], /^target 0: url: .* without credentials, got another/],
  [[{ ...minimal, format: 'xml' }], 'target 0: format: expected one of message, raw, cloudevents, got "xml"'],
  [
    [{ ...minimal, headers: { a: 1 } }],
    /^target 0: headers: expected an object of header names and values, got another/,
  ],
  [
    [{ ...minimal, headers: { 'a b': 'private' } }],
    /^target 0: headers: expected a header name .*, got others in "a b"$/,
  ],
  [[{ ...minimal, headers: { 'Webhook-Id': 'private' } }], /^target 0: headers: expected no header of the connection/],
  [[{ ...minimal, headersFile: '/none' }], 'target 0: headersFile /none: expected a readable file (ENOENT)'],
  [[{ ...minimal, headersFile: '/forbidden' }], /^target 0: headersFile \/forbidden: expected no header .* in line 1$/],
  [[{ ...minimal, secret: 'private' }], /^target 0: secret: expected whsec_ and .*, got another value, not shown/],
  [[{ ...minimal, secretFile: '/headers' }], /^target 0: secretFile \/headers: expected whsec_ .*, not shown/],
  [[{ ...minimal, secret: SECRET, secretFile: '/secret' }], /expected either secret or secretFile, got both$/],
  [[{ ...minimal, concurrency: 0 }], 'target 0: concurrency: expected an integer from 1 to 1000, got 0'],
  [[{ ...minimal, batch: 1.5 }], 'target 0: batch: expected an integer from 1 to 1000, got 1.5'],
  [[{ ...minimal, batch: 2, format: 'raw' }], /^target 0: batch: expected 1 with the format raw/],
  [[{ ...minimal, attempts: '3' }], /^target 0: attempts: expected an integer from 0 to \d+, got "3"$/],
  [
    [{ ...minimal, deadLetterTopic: 'a/+' }],
    'target 0: deadLetterTopic: expected a topic without wildcards, got "a/+"',
  ],
  [[{ ...minimal, retained: 1 }], 'target 0: retained: expected true or false, got 1'],
])('%j is refused', (content, fault) => {
  const parsing = () => parse(content)
  expect(parsing).toThrow(fault)
  try {
    parsing()
  } catch (error) {
    expect((error as Error).message).not.toContain('private')
  }
})

test('a bridge with a push file that is not valid does not start, and says every fault', async () => {
  const { path } = pushFile([{ name: 'a' }, { ...minimal, batch: 0 }])
  const bridge = spawnBridge({ PUSH_FILE: path })
  expect(await bridge.exited).toEqual({ code: 1, signal: null })
  expect(bridge.stdout()).toContain(`cannot start: CAUSEWAY_PUSH_FILE ${path}: target 0: topics: expected an array`)
  expect(bridge.stdout()).toContain('target 1: batch: expected an integer from 1 to 1000, got 0')
})
