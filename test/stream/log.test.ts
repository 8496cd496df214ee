import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MemoryAccount } from '../../src/memory/account.ts'
import { Log } from '../../src/stream/log.ts'
import { SlabPool } from '../../src/stream/slab.ts'

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
        const stored = log.store(frame)
        log.append(stored)
        log.pay(stored.slab)
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
  log.append(log.store({ sequence: 1, bytes: Buffer.alloc(101) }))
  expect([log.start, log.end, log.overwrittenUpTo, log.bytes]).toEqual([1, 1, 1, 0])
})

/** Either some messages of a size for some of three logs, or a log loses a part of what it has. */
const busy = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        logs: fc.subarray([0, 1, 2], { minLength: 1 }),
        payer: fc.nat(2),
        size: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 1, max: 600 }) }, fc.constantFrom(4095, 4096, 9000)),
        count: fc.integer({ min: 1, max: 80 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ log: fc.nat(2), bytes: fc.constantFrom(1000, 20_000, Infinity) }) },
    { weight: 1, arbitrary: fc.record({ from: fc.nat(2) }) },
  ),
  { minLength: 30, maxLength: 60, size: 'max' },
)

test('logs that share frames keep those of each other as they are, and pay for all that they hold', () => {
  fc.assert(
    fc.property(busy, (steps) => {
      const memory = new MemoryAccount({ totalBytes: 1e9 })
      const slabs = new SlabPool()
      const logs = [0, 1, 2].map(
        (index) => new Log({ bytes: 80_000, messages: 300 }, 0, memory.shareOf(`${index}`).hold('logs'), slabs),
      )
      const texts: string[] = []
      for (const step of steps) {
        if ('log' in step) logs[step.log]!.shrink(step.bytes)
        else if ('from' in step) for (const log of logs) log.takeOver(memory.shareOf(`${step.from}`))
        else {
          for (let sent = 0; sent < step.count; sent += 1) {
            const text = `${texts.length}`.padEnd(step.size, '.')
            texts.push(text)
            const stored = logs[step.payer]!.store({
              sequence: texts.length,
              bytes: Buffer.from(text),
              topic: `${sent % 3}`,
            })
            for (const index of step.logs) logs[index]!.append(stored)
            expect(logs[step.payer]!.pay(stored.slab)).toBe(true)
          }
        }
      }
      for (const log of logs) {
        for (let position = log.start; position < log.end; position += 1) {
          const text = String(log.readOne(position))
          expect(text).toBe(texts[Number.parseInt(text, 10)])
        }
        expect(String(log.read(log.start, 1e9).bytes)).toBe(
          Array.from({ length: log.end - log.start }, (_, index) => log.readOne(log.start + index)).join(''),
        )
      }
      expect(memory.heldBytes).toBeGreaterThanOrEqual(Math.max(...logs.map(({ bytes }) => bytes)))
      for (const log of logs) log.shrink(Infinity)
      expect(logs.map(({ heldBytes }) => heldBytes)).toEqual([0, 0, 0])
    }),
    { numRuns: 30 },
  )
})

test('what was read stays as it is when its memory has other frames', () => {
  const log = new Log({ bytes: 1e6, messages: 500 }, 0)
  let sent = 0
  function fill(): void {
    for (let count = 0; count < 500; count += 1) {
      const stored = log.store({ sequence: (sent += 1), bytes: Buffer.from(`${sent} `.padEnd(200, '.')) })
      log.append(stored)
      log.pay(stored.slab)
    }
  }
  fill()
  const one = log.readOne(log.end - 1)!
  const many = log.read(log.start, 65_536).bytes
  const [textOfOne, textOfMany] = [String(one), String(many)]
  fill()
  fill()
  expect([String(one), String(many)]).toEqual([textOfOne, textOfMany])
})

test('few frames among many of another log do not keep those in memory once it is short', () => {
  const memory = new MemoryAccount({ totalBytes: 1e9 })
  const slabs = new SlabPool()
  const [busyLog, quietLog] = ['busy', 'quiet'].map(
    (name) => new Log({ bytes: 1e6, messages: 1000 }, 0, memory.shareOf(name).hold('logs'), slabs),
  )
  for (let sent = 1; sent <= 50_000; sent += 1) {
    const stored = busyLog!.store({ sequence: sent, bytes: Buffer.from(`${sent}`.padEnd(200)) })
    busyLog!.append(stored)
    if (sent % 100 === 0) quietLog!.append(stored)
    busyLog!.pay(stored.slab)
  }
  expect(memory.shareOf('busy').heldBytes).toBeGreaterThan(4e6)
  quietLog!.takeOver(memory.shareOf('busy'))
  expect(memory.shareOf('busy').heldBytes).toBeLessThan(500_000)
  expect(memory.shareOf('quiet').heldBytes).toBeLessThan(500_000)
  expect(Number(quietLog!.readOne(0))).toBe(100)
  expect(quietLog!.positionAfter(200)).toBe(2)
})

test('each log pays for what it has stored since another one took over what it had given up', () => {
  for (let count = 20; count < 60; count += 1) {
    const memory = new MemoryAccount({ totalBytes: 1e9 })
    const [a, b] = ['a', 'b'].map(
      (name) => new Log({ bytes: 1e6, messages: 1000 }, 0, memory.shareOf(name).hold('logs')),
    )
    let sequence = 0
    const send = (...logs: Log[]): void => {
      const stored = a!.store({ sequence: (sequence += 1), bytes: Buffer.alloc(100), topic: `${sequence}` })
      for (const log of logs) log.append(stored)
      a!.pay(stored.slab)
    }
    while (sequence < count) send(a!, b!)
    a!.shrink(Infinity)
    b!.takeOver(memory.shareOf('a'))
    expect(a!.heldBytes).toBe(0)
    const { heldBytes } = b!
    send(a!)
    expect([a!.heldBytes > 600, b!.heldBytes]).toEqual([true, heldBytes])
    for (const log of [a!, b!]) log.shrink(Infinity)
    expect([a!.heldBytes, b!.heldBytes]).toEqual([0, 0])
  }
})
