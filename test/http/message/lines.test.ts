import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Line, lines as linesHeld } from '../../../src/http/message/lines.ts'
import { MemoryAccount } from '../../../src/memory/account.ts'

function lines(chunks: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Line[]> {
  const account = new MemoryAccount({ totalBytes: 1_000_000 })
  return linesHeld(chunks, maxBytes, account.shareOf('a').hold('bodies'), () => {
    throw new Error('there is room')
  })
}

async function* inChunks(bytes: Buffer, cuts: number[]): AsyncGenerator<Buffer> {
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b)
  let start = 0
  for (const end of ends) {
    yield bytes.subarray(start, end)
    start = end
  }
}

async function all(read: AsyncIterable<Line[]>): Promise<Line[]> {
  const result: Line[] = []
  for await (const some of read) result.push(...some)
  return result
}

function naive(bytes: Buffer, maxBytes: number): Line[] {
  const parts = bytes.toString('latin1').split('\n')
  // After the last LF there is another line only if there are more bytes.
  if (parts.at(-1) === '') parts.pop()
  return parts.map((part) => {
    const line = part.endsWith('\r') ? part.slice(0, -1) : part
    return line.length > maxBytes ? { tooLong: true } : { text: Buffer.from(line, 'latin1') }
  })
}

test('lines are the same wherever the chunks end', async () => {
  const byte = fc.oneof(
    { weight: 2, arbitrary: fc.constantFrom(10, 13) },
    { weight: 5, arbitrary: fc.integer({ min: 0, max: 255 }) },
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(byte, { maxLength: 60 }),
      fc.array(fc.nat(60), { maxLength: 8 }),
      fc.integer({ min: 0, max: 8 }),
      async (bytes, cuts, maxBytes) => {
        const body = Buffer.from(bytes)
        const read = await all(lines(inChunks(body, cuts), maxBytes))
        expect(read).toEqual(naive(body, maxBytes))
      },
    ),
    { numRuns: 2000 },
  )
})

test.each<[string, string, number, string[]]>([
  ['LF and CRLF end lines', 'a\nb\r\nc', 9, ['a', 'b', 'c']],
  ['the last line needs no end', 'a\nb', 9, ['a', 'b']],
  ['a CR within a line stays', 'a\rb\r\r\n', 9, ['a\rb\r']],
  ['blank lines count', '\n\r\n\n', 9, ['', '', '']],
  ['the limit leaves out the end', 'abc\r\nabcd\r\nabc\nabcd\nabc', 3, ['abc', 'too long', 'abc', 'too long', 'abc']],
])('%s', async (_name, body, maxBytes, expected) => {
  const read = await all(lines(inChunks(Buffer.from(body), []), maxBytes))
  expect(read.map((line) => ('text' in line ? line.text.toString() : 'too long'))).toEqual(expected)
})

test('reads no further than its lines are taken', async () => {
  let chunks = 0
  async function* endless() {
    for (;;) {
      chunks += 1
      yield Buffer.from('a\nb\n')
    }
  }
  const reader = lines(endless(), 9)
  for (let taken = 0; taken < 3; taken += 1) await reader.next()
  expect(chunks).toBe(3)
})

test('the beginning of a line is held until its end has come; without room for it, reading ends', async () => {
  const memory = new MemoryAccount({ totalBytes: 40_000 })
  const chunk = Buffer.alloc(1000, 'x')
  async function* body() {
    for (let count = 0; count < 10; count += 1) yield chunk
    expect(memory.heldBytes).toBeGreaterThanOrEqual(10_000)
    yield Buffer.from('\n')
    expect(memory.heldBytes).toBe(0)
    for (let count = 0; count < 30; count += 1) yield chunk
    yield Buffer.from('\nlast')
  }
  let ended = 0
  const held = memory.shareOf('a').hold('bodies')
  expect(await all(linesHeld(body(), 100_000, held, () => (ended += 1)))).toEqual([{ text: Buffer.alloc(10_000, 'x') }])
  expect(ended).toBe(1)
})
