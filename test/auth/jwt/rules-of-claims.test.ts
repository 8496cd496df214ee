import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ClaimError, fromClaim, fromTemplates } from '../../../src/auth/jwt/rules-of-claims.ts'
import { filterContains } from '../../../src/mqtt/topic.ts'

describe('rules from a claim', () => {
  const rulesOf = fromClaim('mqtt')

  test('are those it lists', () => {
    expect(rulesOf({ mqtt: { publish: ['a/+'], subscribe: ['a/#'] } })).toEqual({
      publish: ['a/+'],
      subscribe: ['a/#'],
    })
    expect(rulesOf({ mqtt: { publish: ['a'] } })).toEqual({ publish: ['a'], subscribe: [] })
    expect(fromClaim('https://example.com/mqtt')({ 'https://example.com/mqtt': { subscribe: ['a'] } })).toEqual({
      publish: [],
      subscribe: ['a'],
    })
  })

  test('are none without the claim', () => {
    expect(rulesOf({ sub: 'a' })).toEqual({ publish: [], subscribe: [] })
    expect(fromClaim('constructor')({})).toEqual({ publish: [], subscribe: [] })
  })

  test.each([null, '#', 7, { publish: '#' }, { publish: [1] }, { subscribe: ['a#'] }, { publish: null }])(
    '%j is no such claim',
    (claim) => {
      expect(() => rulesOf({ mqtt: claim })).toThrow(ClaimError)
    },
  )
})

describe('rules from templates', () => {
  const rules = (template: string, claims: object) =>
    fromTemplates({ publish: [template], subscribe: [] })({ ...claims }).publish

  test.each([
    ['users/${sub}/#', { sub: 'ann' }, 'users/ann/#'],
    ['users/u-${sub}/${device}', { sub: 'ann', device: 7 }, 'users/u-ann/7'],
    ['${sub}/#', { sub: 'ann' }, 'ann/#'],
    ['fixed/#', {}, 'fixed/#'],
    ['${https://example.com/tenant}/#', { 'https://example.com/tenant': 't1' }, 't1/#'],
    ['users/${sub}', { sub: '$x' }, 'users/$x'],
    ['users/${sub}', { sub: 'a b' }, 'users/a b'],
  ])('%s of %j is %s', (template, claims, rule) => {
    expect(rules(template, claims)).toEqual([rule])
  })

  test.each([
    ['+'],
    ['#'],
    ['a/b'],
    ['a+'],
    ['a#'],
    ['/'],
    [''],
    ['a\0b'],
    ['a\nb'],
    ['\ud800'],
    [null],
    [undefined],
    [{}],
    [['ann']],
  ])('a claim %j grants nothing', (sub) => {
    expect(rules('users/${sub}/#', { sub })).toEqual([])
  })

  test.each(['$SYS', '$share', '$'])('a claim %s leads to no topics of the broker', (sub) => {
    expect(rules('${sub}/#', { sub })).toEqual([])
    expect(rules('${sub}YS/#', { sub: '$S' })).toEqual([])
  })

  test('a claim that every object inherits is missing', () => {
    expect(rules('users/${constructor}', {})).toEqual([])
  })

  test('one rule that grants nothing leaves the others alone', () => {
    expect(fromTemplates({ publish: ['a/${sub}', 'b'], subscribe: [] })({ sub: '#' }).publish).toEqual(['b'])
  })

  test.each(['a/${sub', 'a#', '${}#', '', 'a/${sub}#', '$share/g/${sub}'])('%j is no template', (template) => {
    expect(() => fromTemplates({ publish: [], subscribe: [template] })).toThrow(
      /^expected filters in which levels may contain \$\{claim\}, got /,
    )
  })

  test('whatever the claim says, no rule reaches beyond its level', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[+#/$a\0]{0,4}$/)), (sub) => {
        for (const rule of rules('users/${sub}/in', { sub })) {
          expect(filterContains('users/+/in', rule) && rule.split('/').length === 3 && !/[+#]/.test(rule)).toBe(true)
        }
        for (const rule of rules('${sub}/in', { sub })) expect(filterContains('+/in', rule)).toBe(true)
      }),
    )
  })
})
