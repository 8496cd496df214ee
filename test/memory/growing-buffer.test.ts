import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MemoryAccount } from '../../src/memory/account.ts'
import { GrowingBuffer } from '../../src/memory/growing-buffer.ts'

test('the bytes are what was appended, held while they are there', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 40_000 }), { maxLength: 12 }), (sizes) => {
      const account = new MemoryAccount({ totalBytes: 10_000_000 })
      const buffer = new GrowingBuffer(account.shareOf('a').hold('bodies'), 1_000_000)
      const pieces = sizes.map((size, index) => Buffer.alloc(size, index + 1))
      for (const piece of pieces) expect(buffer.append(piece)).toBe(true)
      const all = Buffer.concat(pieces)
      expect(buffer.length).toBe(all.length)
      expect(account.heldBytes).toBeGreaterThanOrEqual(all.length)
      expect(account.heldBytes).toBeLessThanOrEqual(2 * all.length + 4096)
      expect(buffer.take().equals(all)).toBe(true)
      expect(account.heldBytes).toBe(0)
    }),
  )
})

test('what there is no room for is not appended', () => {
  const account = new MemoryAccount({ totalBytes: 100_000 })
  const buffer = new GrowingBuffer(account.shareOf('a').hold('bodies'), 1_000_000)
  expect(buffer.append(Buffer.alloc(1000, 'a'))).toBe(true)
  const held = account.heldBytes
  expect(buffer.append(Buffer.alloc(60_000, 'b'))).toBe(false)
  expect(buffer.append(Buffer.alloc(4000, 'b'))).toBe(true)
  expect(account.heldBytes).toBeGreaterThan(held)
  expect(buffer.take().toString()).toBe('a'.repeat(1000) + 'b'.repeat(4000))
  buffer.clear()
  expect(account.heldBytes).toBe(0)
})
