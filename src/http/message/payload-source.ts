import { CausewayError } from '../../errors.ts'

const QUOTE = 0x22
const COMMA = 0x2c
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const SPACE = 0x20
const BYTE_ORDER_MARK = 0xfeff

/**
 * The text that the member `payload` of a message has in the JSON text of the message; undefined where there is none.
 * `JSON.parse` loses digits of numbers, the order of names that are numbers, and all but the last of equal names, so a
 * payload in JSON is sent as it was written. All functions here take text that `JSON.parse` has accepted.
 *
 * @param value what `JSON.parse` made of the text
 * @param at where the message begins
 * @throws CausewayError if a member of the message or of its properties is there twice
 */
export function payloadSource(text: string, value: unknown, at = beginningOf(text)): string | undefined {
  if (text.charCodeAt(at) !== OPEN_BRACE) return undefined
  const message = scanObject(text, at, 'payload')
  const { properties } = value as { properties?: { userProperties?: unknown } }
  requireOnce(message, value, text, at, '#')
  if (isObject(properties)) {
    const { valueAt } = scanObject(text, at, 'properties')
    const scanned = scanObject(text, valueAt, 'userProperties')
    requireOnce(scanned, properties, text, valueAt, '#/properties')
    const { userProperties } = properties
    if (isObject(userProperties)) {
      const names = scanObject(text, scanned.valueAt, '')
      requireOnce(names, userProperties, text, scanned.valueAt, '#/properties/userProperties')
    }
  }
  return message.valueAt < 0 ? undefined : text.slice(message.valueAt, message.valueEnd)
}

/** Where each element of a JSON array begins. */
export function elementsOf(text: string): number[] {
  const starts: number[] = []
  let at = skipSpace(text, beginningOf(text) + 1)
  if (text.charCodeAt(at) === CLOSE_BRACKET) return starts
  for (;;) {
    starts.push(at)
    at = skipSpace(text, skipValue(text, at))
    if (text.charCodeAt(at) !== COMMA) return starts
    at = skipSpace(text, at + 1)
  }
}

interface ScannedObject {
  /** Number of members; equal names count each time. */
  members: number
  /** Where the value of the wanted member begins, or -1, and ends. */
  valueAt: number
  valueEnd: number
}

/**
 * @param at where the object begins
 * @param wanted name of the member whose value is wanted
 * @param onName called with each name
 */
function scanObject(text: string, at: number, wanted: string, onName?: (name: string) => void): ScannedObject {
  const scanned = { members: 0, valueAt: -1, valueEnd: -1 }
  let position = skipSpace(text, at + 1)
  while (text.charCodeAt(position) === QUOTE) {
    const nameEnd = skipString(text, position)
    const valueAt = skipSpace(text, skipSpace(text, nameEnd) + 1)
    const valueEnd = skipValue(text, valueAt)
    scanned.members += 1
    if (isName(text, position, nameEnd, wanted)) {
      scanned.valueAt = valueAt
      scanned.valueEnd = valueEnd
    }
    onName?.(JSON.parse(text.slice(position, nameEnd)))
    position = skipSpace(text, valueEnd)
    if (text.charCodeAt(position) !== COMMA) break
    position = skipSpace(text, position + 1)
  }
  return scanned
}

function requireOnce({ members }: ScannedObject, value: unknown, text: string, at: number, pointer: string): void {
  if (members === Object.keys(value as object).length) return
  const names = new Set<string>()
  let twice = ''
  scanObject(text, at, '', (name) => {
    if (names.has(name)) twice = name
    names.add(name)
  })
  const escaped = encodeURI(twice.toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1')).replaceAll('#', '%23')
  const fault = { in: 'body' as const, pointer: `${pointer}/${escaped}`, detail: 'is there more than once' }
  throw new CausewayError('invalid-request', `body ${fault.pointer} ${fault.detail}`, { faults: [fault] })
}

function isName(text: string, at: number, end: number, wanted: string): boolean {
  const length = end - at - 2
  if (length === wanted.length) return text.startsWith(wanted, at + 1)
  // A name that is longer in the text may be the same one with escapes.
  if (length < wanted.length || wanted === '') return false
  const name = text.slice(at, end)
  return name.includes('\\') && JSON.parse(name) === wanted
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Where the first value begins: parsers of JSON skip a byte order mark. */
function beginningOf(text: string): number {
  return skipSpace(text, text.charCodeAt(0) === BYTE_ORDER_MARK ? 1 : 0)
}

function skipSpace(text: string, at: number): number {
  // JSON has four white space characters, none above the space, and what is no white space is above it.
  while (text.charCodeAt(at) <= SPACE) at += 1
  return at
}

/** @returns the position behind the string that begins at `at` */
function skipString(text: string, at: number): number {
  let end = at
  let backslashes: number
  do {
    end = text.indexOf('"', end + 1)
    backslashes = 0
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes += 1
  } while (backslashes % 2 === 1)
  return end + 1
}

/** @returns the position behind the value that begins at `at`. Counts levels, as recursion would overflow the stack. */
function skipValue(text: string, at: number): number {
  const first = text.charCodeAt(at)
  if (first === QUOTE) return skipString(text, at)
  if (first !== OPEN_BRACE && first !== OPEN_BRACKET) return skipScalar(text, at)
  let levels = 0
  do {
    const code = text.charCodeAt(at)
    if (code === QUOTE) {
      at = skipString(text, at)
      continue
    }
    if (code === OPEN_BRACE || code === OPEN_BRACKET) levels += 1
    else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) levels -= 1
    at += 1
  } while (levels > 0)
  return at
}

/** Behind a number, `true`, `false` or `null`. */
function skipScalar(text: string, at: number): number {
  while (at < text.length) {
    const code = text.charCodeAt(at)
    if (code === COMMA || code === CLOSE_BRACE || code === CLOSE_BRACKET || code <= SPACE) return at
    at += 1
  }
  return at
}
