import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Log } from '../../src/stream/log.ts'

const limits = { bytes: 100, messages: 8 }
const appends = fc.array(
  fc.record({
    step: fc.integer({ min: 1, max: 3 }),
    size: fc.oneof(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 90, max: 130 })),
    topic: fc.constantFrom('a', 'b', undefined),
  }),
  { maxLength: 60 },
)

test('holds the newest frames its limits allow, and knows what it overwrote', () => {
  fc.assert(
    fc.property(appends, fc.integer({ min: 1, max: 60 }), (steps, maxBytes) => {
      const log = new Log(limits, 5)
      let all: { sequence: number; bytes: Buffer; topic?: string }[] = []
      let sequence = 5
      for (const { step, size, topic } of steps) {
        sequence += step
        const frame = { sequence, bytes: Buffer.alloc(size, sequence), ...(topic !== undefined && { topic }) }
        all = [...all, frame]
        log.append(frame)
      }
      let held: typeof all = []
      for (const frame of all.toReversed()) {
        if (
          held.length === limits.messages ||
          held.reduce((sum, { bytes }) => sum + bytes.length, frame.bytes.length) > limits.bytes
        ) {
          break
        }
        held = [frame, ...held]
      }
      const first = all.length - held.length
      expect([log.start, log.end]).toEqual([first, all.length])
      expect(log.overwrittenUpTo).toBe(first === 0 ? 5 : all[first - 1]!.sequence)
      expect(log.bytes).toBe(held.reduce((sum, { bytes }) => sum + bytes.length, 0))

      for (const [index, frame] of held.entries()) {
        expect(log.positionAfter(frame.sequence)).toBe(first + index + 1)
        expect(log.positionAfter(frame.sequence - 1)).toBe(first + index)
      }
      const isNewest = ({ topic }: (typeof all)[number], index: number) =>
        topic === undefined || !held.slice(index + 1).some((later) => later.topic === topic)
      expect(log.newestOfTopics()).toEqual(
        held.flatMap((frame, index) => (isNewest(frame, index) ? [first + index] : [])),
      )

      const chunks: Buffer[] = []
      for (let position = log.start; position < log.end;) {
        const { bytes, end } = log.read(position, maxBytes)
        expect(end === position + 1 || bytes.length <= maxBytes).toBe(true)
        chunks.push(bytes)
        position = end
      }
      expect(Buffer.concat(chunks)).toEqual(Buffer.concat(held.map(({ bytes }) => bytes)))
    }),
  )
})

test('a frame larger than the whole log is overwritten at once', () => {
  const log = new Log(limits, 0)
  log.append({ sequence: 1, bytes: Buffer.alloc(101) })
  expect([log.start, log.end, log.overwrittenUpTo, log.bytes]).toEqual([1, 1, 1, 0])
})
