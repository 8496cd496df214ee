import type { Random } from '../storm/random.ts'

/**
 * What breaks programs that join strings: line ends, NUL, lone surrogates, names with a meaning in JavaScript or MQTT.
 */
const NASTY = [
  '',
  ' ',
  '\0',
  '\r\n',
  '\n',
  '\r',
  '\u2028',
  '\u2029',
  '\x7f',
  '\x85',
  '\ud800',
  '\udfff\ud800',
  '\ufdd0',
  '\uffff',
  '\ufeff',
  '\u202e',
  'ü',
  '𝄞',
  '%',
  '%0d%0a',
  '%00',
  '\\u0000',
  '..',
  '../../etc/passwd',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  'then',
  'length',
  '$',
  '$SYS/#',
  '$share/g/f',
  '$share/g',
  '$share//f',
  '$queue/a',
  '+',
  '#',
  'a/#/b',
  'a+',
  '/',
  '//',
  '/'.repeat(300),
  '"',
  "'",
  '`',
  '\\',
  '<script>',
  '${7*7}',
  '{{7*7}}',
  "'; DROP TABLE messages; --",
  'data: x\n\nevent: gap',
  'x\r\nSet-Cookie: a=b\r\n\r\n',
  'null',
  'undefined',
  'NaN',
  '-0',
  '1e999',
  '0x10',
  '99999999999999999999',
] as const
const PLAIN = ['a', 'a/b', 'fuzz', 'fuzz/1', 'fuzz/2/x', 'home/temp', 'retained/1', 'retained/2', 'é/ü'] as const

/** A topic that may be published to. */
export const plainTopic = (random: Random): string => random.pick(PLAIN)

export const plainFilter = (random: Random): string =>
  random.pick([...PLAIN, '#', '+/+', 'fuzz/#', 'retained/+', 'good/#', '$share/g/fuzz/#'])

export function nastyText(random: Random): string {
  const parts = Array.from({ length: random.integer(1, 3) }, () =>
    random.chance(0.7) ? random.pick(NASTY) : random.pick(PLAIN),
  )
  const text = parts.join('')
  return random.chance(0.01) ? text.repeat(random.pick([100, 1000, 20_000])) : text
}

/** Percent-encoded for a query or path; in 4 % of the cases malformed. */
export function encoded(random: Random, text: string): string {
  if (random.chance(0.04)) {
    return random.pick([
      '%',
      '%2',
      '%zz',
      '%ff',
      '%c0%af',
      '%ed%a0%80',
      '%00',
      '%u0041',
      '&',
      '=',
      ';',
      '+',
      '%26%3d',
      '[]',
      '[a]',
    ])
  }
  return encodeURIComponent(text.toWellFormed())
}

/** A header value; in 5 % of the cases it may contain CR and NUL, which are not allowed. */
export function headerText(random: Random): string {
  const text = nastyText(random).slice(0, 4000)
  const latin = Buffer.from(text.toWellFormed()).toString('latin1')
  return random.chance(0.95) ? latin.replace(/[\r\n\0]/g, ' ') : latin.replace(/\n/g, ' ')
}
