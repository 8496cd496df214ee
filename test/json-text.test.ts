import { expect, test } from 'vitest'
import { stringToJson, toJson } from '../src/json-text.ts'
import { createResultText } from '../src/http/routes/publish.ts'

test('every character is written as JSON, without what a client takes for the end of a line', () => {
  for (let code = 0; code <= 0xffff; code += 1) {
    for (const text of [String.fromCharCode(code), `a/${String.fromCharCode(code)}b`]) {
      const json = stringToJson(text)
      if (JSON.parse(json) !== text || /[\n\r\u0085\u2028\u2029]/.test(json)) expect([code, json]).toBe('as JSON')
      if (json !== toJson(text)) expect([code, json]).toBe(toJson(text))
    }
  }
  expect(stringToJson('')).toBe('""')
})

test('the text of a result is that of this result, whatever the one before was', () => {
  const resultText = createResultText()
  const results = (['home/temp', 'a"\\\u2028é'] as const).flatMap((topic) =>
    ([0, 1, 2] as const).flatMap((qos) =>
      [null, 0, 0x10].flatMap((reasonCode) =>
        [null, 'Success', 'has "quotes" and \u2028'].flatMap((reason) =>
          [null, true, false].map((matchedSubscribers) => ({ topic, qos, reasonCode, reason, matchedSubscribers })),
        ),
      ),
    ),
  )
  for (const [index, result] of results.entries()) {
    // Each one differs from the one before in one place, then in all.
    expect(resultText(result)).toBe(toJson(result))
    const other = results[(index * 31 + 17) % results.length]!
    expect(resultText(other)).toBe(toJson(other))
    expect(resultText(result)).toBe(toJson(result))
  }
})
