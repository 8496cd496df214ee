import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { curlLine } from '../../src/console/curl.ts'
import type { Message } from '../../src/console/message.ts'

/** What a shell hands to curl for this line. */
function argumentsOf(message: Message, auth: 'none' | 'token' | 'broker' = 'none'): string[] {
  const script = `curl() { printf '%s\\0' "$@"; }; TOKEN=secret; ${curlLine('http://h/', message, auth)}`
  return execFileSync('bash', ['-c', script], { encoding: 'utf8' }).split('\0').slice(0, -1)
}

test.each(['', "it's", '@/etc/passwd', '$HOME `id` $(id)', 'a\nb\\', '"; rm -rf /; echo "', '!! 🙂'])(
  'a shell hands the payload %j on as it is',
  (payload) => {
    const message: Message = { topic: "a b/c'&d#[1]", payload, encoding: 'utf8', qos: 2, retain: true }
    const [option, data, url] = argumentsOf(message)
    expect([option, data]).toEqual(['--data-raw', payload])
    expect(url).not.toMatch(/[[\]{}]/)
    const { pathname, searchParams } = new URL(url!)
    expect([pathname, ...searchParams]).toEqual([
      '/publish',
      ['topic', message.topic],
      ['qos', '2'],
      ['retain', 'true'],
    ])
  },
)

test('what a query cannot say goes as JSON', () => {
  const message: Message = {
    topic: 'a',
    payload: 'AA==',
    encoding: 'base64',
    qos: 1,
    properties: { contentType: "x'y" },
  }
  const [, type, , body, url] = argumentsOf(message)
  expect([type, url]).toEqual(['Content-Type: application/json', 'http://h/publish'])
  expect(JSON.parse(body!)).toEqual(message)
})

test('credentials are variables of the shell, not part of the line', () => {
  const message: Message = { topic: 'a', payload: 'x', encoding: 'utf8' }
  expect(argumentsOf(message, 'token').slice(0, 2)).toEqual(['-H', 'Authorization: Bearer secret'])
  expect(argumentsOf(message, 'broker')[0]).toBe('-u')
})
