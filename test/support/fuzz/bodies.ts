import type { Random } from '../storm/random.ts'
import { nastyText, plainTopic } from './texts.ts'

type Json = unknown

const FIELDS = ['topic', 'payload', 'encoding', 'qos', 'retain', 'properties', 'redelivered'] as const
const PROPERTIES = [
  'contentType',
  'responseTopic',
  'correlationData',
  'messageExpiryInterval',
  'payloadFormatIndicator',
  'userProperties',
] as const

function anyValue(random: Random, depth = 0): Json {
  const kind = random.integer(0, depth > 3 ? 6 : 9)
  if (kind <= 1) return nastyText(random)
  if (kind === 2) {
    return random.pick([0, -1, 1, 2, 3, 1.5, -0, 1e21, 5e-324, 2 ** 32, 2 ** 32 - 1, 2 ** 53, 4_294_967_296])
  }
  if (kind === 3) return random.chance(0.5)
  if (kind === 4) return null
  if (kind === 5) return random.pick(['utf8', 'base64', 'json', 'hex', 'AAAA', 'AA==', 'AA=', 'A', 'text/html'])
  if (kind === 6) return random.pick([[], {}])
  if (kind === 7) return Array.from({ length: random.integer(0, 5) }, () => anyValue(random, depth + 1))
  return Object.fromEntries(
    Array.from({ length: random.integer(0, 5) }, () => [
      random.chance(0.3) ? random.pick([...FIELDS, ...PROPERTIES]) : nastyText(random),
      anyValue(random, depth + 1),
    ]),
  )
}

function message(random: Random): Record<string, Json> {
  return {
    topic: plainTopic(random),
    payload: random.pick([
      'x',
      '',
      'AA==',
      '{"a":1}',
      21.5,
      { celsius: 21.5 },
      [1, 2],
      null,
      true,
      'ü'.repeat(random.integer(0, 50)),
    ]),
    ...(random.chance(0.5) && { qos: random.integer(0, 2) }),
    ...(random.chance(0.2) && { retain: true, topic: `retained/${random.integer(1, 2)}` }),
    ...(random.chance(0.2) && { encoding: random.pick(['utf8', 'base64', 'json']) }),
    ...(random.chance(0.4) && { properties: properties(random) }),
  }
}

function properties(random: Random): Record<string, Json> {
  const all: Record<string, Json> = {
    contentType: random.pick(['text/plain', 'text/html; charset=utf-8', 'x', 'text/plain\u00e9']),
    responseTopic: plainTopic(random),
    correlationData: random.pick(['', 'AA==', 'AAEC/w==']),
    messageExpiryInterval: random.pick([0, 1, 60, 2 ** 32 - 1]),
    payloadFormatIndicator: random.chance(0.5),
    userProperties: Object.fromEntries(
      Array.from({ length: random.integer(0, 4) }, (_, index) => [
        random.chance(0.5) ? `n${index}` : nastyText(random),
        random.chance(0.7) ? 'v' : [nastyText(random), 'w'],
      ]),
    ),
  }
  return Object.fromEntries(random.some(Object.entries(all), random.integer(0, 3)))
}

/** A message with one or two fields removed or replaced by anything. */
function mutated(random: Random): Json {
  const value = message(random)
  if (random.chance(0.1)) return anyValue(random)
  for (let times = random.integer(1, 2); times > 0; times -= 1) {
    const target = random.chance(0.4) ? ((value['properties'] ??= properties(random)) as Record<string, Json>) : value
    if (typeof target !== 'object' || target === null) continue
    const name = random.chance(0.8) ? random.pick(target === value ? FIELDS : PROPERTIES) : nastyText(random)
    if (random.chance(0.1)) delete target[name]
    else target[name] = anyValue(random)
  }
  return value
}

export const goodMessage = (random: Random): Buffer => Buffer.from(JSON.stringify(message(random)))

/** The JSON of a message, in most cases valid or almost valid. */
export function messageText(random: Random): Buffer {
  const text = JSON.stringify(random.chance(0.45) ? message(random) : mutated(random)) ?? ''
  const kind = random.integer(0, 60)
  if (kind === 0) return Buffer.from(text.slice(0, random.integer(0, text.length)))
  if (kind === 1) return Buffer.from(text.replace('{', '{"__proto__":{"retain":true,"topic":"polluted"},'))
  if (kind === 2) return Buffer.from(text.replace('{', '{"constructor":{"prototype":{"polluted":true}},"topic":"b",'))
  if (kind === 3) return Buffer.from(`${'['.repeat(random.pick([10, 5000, 100_000]))}${']'.repeat(100_000)}`)
  if (kind === 4) {
    return Buffer.from(text.replace(/"payload":[^,}]*/, `"payload":${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`))
  }
  if (kind === 5) {
    return Buffer.from(
      text.replace(
        /:("[^"]*"|[\d.]+)/,
        () => `:${random.pick(['1e9999', '-', '01', '"\\ud800"', '"\\x00"', "'a'", '// x', 'NaN', '\u00a0', '"\t"'])}`,
      ),
    )
  }
  if (kind === 6) return flipped(random, Buffer.from(text))
  if (kind === 7) return Buffer.from(text, 'utf16le')
  if (kind === 8) return Buffer.from(`\ufeff${text}`)
  if (kind === 9 && random.chance(0.1)) {
    return Buffer.from(JSON.stringify({ topic: 'a', payload: 'x'.repeat(random.pick([70_000, 1_000_000, 1_100_000])) }))
  }
  return Buffer.from(text)
}

function flipped(random: Random, bytes: Buffer): Buffer {
  for (let times = random.integer(1, 3); times > 0 && bytes.length > 0; times -= 1) {
    bytes[random.integer(0, bytes.length - 1)] = random.integer(0, 255)
  }
  return bytes
}

export function batchText(random: Random): Buffer {
  const messages = Array.from({ length: random.integer(0, 6) }, () => messageText(random).toString())
  if (random.chance(0.05)) return messageText(random)
  return Buffer.from(`[${messages.join(random.chance(0.95) ? ',' : ',,')}]`)
}

export function linesText(random: Random): Buffer {
  const line = () =>
    random.chance(0.9) ? messageText(random) : Buffer.from(random.pick(['', ' ', '\0', 'x', '[]', '{}', '\r', 'null']))
  const lines = Array.from({ length: random.integer(0, 6) }, () => [
    line(),
    Buffer.from(random.chance(0.9) ? '\n' : '\r\n'),
  ])
  return Buffer.concat(lines.flat())
}

export const randomBytes = (random: Random): Buffer =>
  Buffer.from(Array.from({ length: random.integer(0, 300) }, () => random.integer(0, 255)))

export const ackText = (random: Random): Buffer =>
  Buffer.from(JSON.stringify(random.chance(0.5) ? { id: nastyText(random) } : anyValue(random)) ?? '')
