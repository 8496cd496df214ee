import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { elementsOf, payloadSource } from '../../../src/http/message/payload-source.ts'

const sourceOf = (text: string) => payloadSource(text, JSON.parse(text))

test.each([
  ['{"topic":"a","payload":{"id":1724442618569203714}}', '{"id":1724442618569203714}'],
  ['{"payload":1e400,"topic":"a"}', '1e400'],
  ['{"payload" : 21.50 , "topic":"a"}', '21.50'],
  ['{"payload": [ 1,\n\t2 ]}', '[ 1,\n\t2 ]'],
  ['{"payload":{"b":1,"a":1,"1":1,"a":2}}', '{"b":1,"a":1,"1":1,"a":2}'],
  [String.raw`{"payload":"\u0041\"\\"}`, String.raw`"\u0041\"\\"`],
  [String.raw`{"pay\u006coad":-0.0}`, '-0.0'],
  [String.raw`{"x":"\\","payload":true}`, 'true'],
  ['{"x":{"payload":1},"payload":null}', 'null'],
  ['{"x":{"payload":1}}', undefined],
  ['{"x":"\\"payload\\":1"}', undefined],
  ['\ufeff{"payload":1}', '1'],
  [' \r\n {} ', undefined],
  ['[1]', undefined],
  ['7', undefined],
  ['null', undefined],
  ['"payload"', undefined],
])('the payload of %s is %s', (text, source) => {
  const value = JSON.parse(text.replace('\ufeff', ''))
  expect(payloadSource(text, value)).toBe(source)
})

test.each([
  ['{"topic":"a","topic":"b"}', '#/topic'],
  ['{"payload":1,"payload":1}', '#/payload'],
  [String.raw`{"qos":1,"q\u006fs":2}`, '#/qos'],
  ['{"properties":{"contentType":"a","contentType":"b"}}', '#/properties/contentType'],
  ['{"properties":{"userProperties":{"a/b":"1","a/b":"2"}}}', '#/properties/userProperties/a~1b'],
  ['{"__proto__":1,"__proto__":2}', '#/__proto__'],
])('%s is refused, with a pointer to %s', (text, pointer) => {
  expect(() => sourceOf(text)).toThrow(
    expect.objectContaining({ details: { faults: [{ in: 'body', pointer, detail: 'is there more than once' }] } }),
  )
})

const json = fc.json({ maxDepth: 4, stringUnit: 'binary' })
const space = fc.stringMatching(/^[ \n\r\t]{0,3}$/)

describe('any message', () => {
  test('keeps the text of its payload, whatever stands around it', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.string({ unit: 'binary' }), json), { maxLength: 4 }),
        json,
        fc.nat(4),
        space,
        (others, payload, index, gap) => {
          const names = new Set(['payload'])
          const members = others
            .filter(([name]) => name !== 'properties' && !names.has(name) && names.add(name))
            .map(([name, value]) => `${gap}${JSON.stringify(name)}${gap}:${gap}${value}${gap}`)
          members.splice(index % (members.length + 1), 0, `"payload"${gap}:${gap}${payload}${gap}`)
          const text = `${gap}{${members.join(',')}}${gap}`
          expect(sourceOf(text)).toBe(payload.trim())
        },
      ),
      { numRuns: 1000 },
    )
  })

  test('of an array has its own text', () => {
    fc.assert(
      fc.property(fc.array(json), space, (elements, gap) => {
        const text = `${gap}[${gap}${elements.map((element) => `${gap}${element}${gap}`).join(',')}]`
        const starts = elementsOf(text)
        expect(starts).toHaveLength(elements.length)
        const values = JSON.parse(text) as unknown[]
        starts.forEach((start, index) => {
          expect(JSON.parse(text.slice(start, start + elements[index]!.trim().length))).toEqual(values[index])
        })
      }),
    )
  })
})

test('a text of any depth and length is read in linear time', () => {
  const deep = '['.repeat(1_000_000) + ']'.repeat(1_000_000)
  expect(sourceOf(`{"payload":${deep}}`)).toHaveLength(2_000_000)
  const quotes = String.raw`\"`.repeat(1_000_000)
  expect(sourceOf(`{"x":"${quotes}","payload":"${quotes}"}`)).toHaveLength(2_000_002)
  const members = Array.from({ length: 100_000 }, (_, index) => `"${index}":0`).join()
  expect(sourceOf(`{${members},"payload":1}`)).toBe('1')
  const backslashes = String.raw`\\`.repeat(1_000_000)
  expect(sourceOf(`{"${backslashes}":1,"payload":"${backslashes}"}`)).toHaveLength(2_000_002)
})
