import type { Random } from '../storm/random.ts'
import { headerText } from './texts.ts'

const VALUES: Record<string, readonly string[]> = {
  Accept: ['text/event-stream', 'application/x-ndjson', 'application/json', '*/*', 'text/*;q=0.1', ';', ',', 'application/openmetrics-text', 'text/event-stream;q=0', `${'a/b,'.repeat(500)}`, 'q=x/;q=', 'application/json;q=1e99'],
  'Accept-Encoding': ['gzip', 'br;q=1', '*', 'identity;q=0'],
  'Content-Encoding': ['gzip', 'br', 'identity', 'gzip, gzip'],
  'Content-Type': ['application/json; charset=utf-7', 'application/json;', 'application/JSON ;x=y', 'multipart/form-data', 'text', '/', ';', 'application/json, text/plain', 'text/plain; charset="', 'a/b; __proto__=x'],
  'Idempotency-Key': ['"a"', '"b"', 'c', '""', '"', '"\\""', '"\\x"', `"${'k'.repeat(300)}"`, '"__proto__"', '"constructor"', 'é'],
  'Last-Event-ID': ['1', '0-0', 'abc-1', '-1', '25da8d536543642070bde78e5e18-1', `${'9'.repeat(1000)}`, '__proto__-1', 'é'],
  Origin: ['null', 'http://127.0.0.1', 'https://evil.example', 'file://', 'http://', 'x', 'http://127.0.0.1:99999'],
  'Sec-Fetch-Site': ['cross-site', 'same-origin', 'none', 'x'],
  Cookie: ['causeway=AAAA', 'causeway=', 'causeway', '=', ';;;', '__proto__=x', `causeway=${'A'.repeat(5000)}`, '__Host-causeway=QmVhcmVyIHg'],
  Authorization: ['Bearer x', 'Bearer', 'Basic', 'Basic AAAA', 'Basic OjpA', 'Basic Og==', 'Digest username="x"', 'bearer  a b', `Bearer ${'A'.repeat(6000)}`, 'Bearer eyJhbGciOiJub25lIn0.e30.', 'Basic /w=='],
  Connection: ['close', 'keep-alive', 'upgrade', 'Transfer-Encoding', 'x'],
  Upgrade: ['websocket', 'h2c'],
  Expect: ['100-continue', '200-ok', 'x'],
  Range: ['bytes=0-1', 'bytes=-', 'x'],
  'If-None-Match': ['*', '"x"'],
  'If-Modified-Since': ['Thu, 01 Jan 1970 00:00:00 GMT', 'x'],
  'X-Forwarded-For': ['1.2.3.4', 'x', '::1,,'],
  'X-HTTP-Method-Override': ['DELETE'],
  'Access-Control-Request-Method': ['POST', 'x'],
  Forwarded: ['for=1;host=x'],
  traceparent: ['00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'x', '\x80'],
  tracestate: ['a=b', '\xff'],
  TE: ['trailers'],
  Te: ['chunked'],
  Host: ['', 'a b', 'evil.example', '[::1', '127.0.0.1:x'],
  ['__proto__']: ['x'],
  'constructor': ['x'],
}
const NAMES = Object.keys(VALUES)

/** A few header lines, most of them with a meaning here. */
export function someHeaders(random: Random): string[] {
  return random.some(NAMES, random.pick([0, 0, 1, 1, 2, 4])).map((name) => `${name}: ${random.chance(0.9) ? random.pick(VALUES[name] ?? ['x']) : headerText(random)}`)
}
