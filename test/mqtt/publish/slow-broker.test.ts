import { onTestFinished, expect, test, vi } from 'vitest'
import { MemoryAccount } from '../../../src/memory/account.ts'
import type { NetworkConnection } from '../../../src/mqtt/client/network-connection.ts'
import { capabilitiesOf } from '../../../src/mqtt/client/packets.ts'
import type { Connection } from '../../../src/mqtt/connection.ts'
import type { Message } from '../../../src/mqtt/message.ts'
import { BatchAdmission } from '../../../src/mqtt/publish/batch-admission.ts'
import { PublishQueue } from '../../../src/mqtt/publish/publish-queue.ts'

const message: Message = { topic: 'a', payload: Buffer.from('x'), qos: 1, retain: false }
const capabilities = capabilitiesOf({ cmd: 'connack', sessionPresent: false, properties: { receiveMaximum: 20 } }, 5)

/** A queue whose broker acknowledges each publish `delayMs` after it was sent, on a clock that the test moves. */
function startQueue(timeoutMs: number, delayMs: () => number, waitMaxMs = timeoutMs) {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  onTestFinished(() => void vi.useRealTimers())
  const seen = { sent: 0, cuts: 0 }
  const network = {
    writable: true,
    publish(_message: Message, messageId: number) {
      seen.sent += 1
      setTimeout(() => queue.acknowledged({ cmd: 'puback', messageId, reasonCode: 0 }), delayMs())
    },
    destroy: () => void (seen.cuts += 1),
  } as unknown as NetworkConnection
  const limits = { maxInFlight: 1000, maxInFlightBytes: 1e6, waitMaxMs, timeoutMs }
  const queue: PublishQueue = new PublishQueue(
    limits,
    [false, false, false],
    () => ({ network, capabilities }) as Connection,
  )
  queue.connected(network, capabilities, false, false)
  const share = new MemoryAccount({ totalBytes: 1e9 }).shareOf('a')
  const outcomes: Record<string, number> = {}
  const count = (name: string) => (outcomes[name] = (outcomes[name] ?? 0) + 1)
  async function publish(): Promise<void> {
    try {
      await queue.publish(message, share)
      count('acknowledged')
    } catch (error) {
      const { kind, details } = error as { kind: { code: string }; details: { outcome: string; retryAfter?: number } }
      count(`${kind.code} ${details.outcome}`)
      if (kind.code === 'overloaded') expect(details.retryAfter).toBeGreaterThan(0)
    }
  }
  return { queue, publish, share, seen, outcomes }
}

test('at three times what the broker can take, nothing is sent that it could not acknowledge in time', async () => {
  const { publish, seen, outcomes } = startQueue(10_000, () => 600)
  // 20 in flight and 600 ms allow 33 a second.
  for (let time = 0; time < 60_000; time += 10) {
    void publish()
    await vi.advanceTimersByTimeAsync(10)
  }
  await vi.advanceTimersByTimeAsync(20_000)
  expect(Object.keys(outcomes).toSorted()).toEqual(['acknowledged', 'overloaded not-sent'])
  expect(seen).toEqual({ sent: outcomes['acknowledged'], cuts: 0 })
  expect(outcomes['acknowledged']).toBeGreaterThan(1900)
  expect(outcomes['acknowledged']! + outcomes['overloaded not-sent']!).toBe(6000)
})

test('what would wait for longer than is allowed is refused at once, and what is accepted is answered soon', async () => {
  const { publish, seen, outcomes } = startQueue(10_000, () => 200, 500)
  const tookMs: Record<string, number> = {}
  // 20 in flight and 200 ms allow 100 a second. Three times as many come.
  for (let index = 0; index < 3000; index += 1) {
    const before = { ...outcomes }
    const startedAt = performance.now()
    void publish().then(() => {
      const outcome = Object.keys(outcomes).find((name) => outcomes[name] !== before[name])!
      tookMs[outcome] = Math.max(tookMs[outcome] ?? 0, performance.now() - startedAt)
    })
    await vi.advanceTimersByTimeAsync(10 / 3)
  }
  await vi.advanceTimersByTimeAsync(20_000)
  expect(seen.sent).toBe(outcomes['acknowledged'])
  expect(outcomes['acknowledged']).toBeGreaterThan(950)
  expect(outcomes['acknowledged']! + outcomes['overloaded not-sent']!).toBe(3000)
  expect(tookMs['acknowledged']).toBeLessThan(500 + 200 + 200)
  expect(tookMs['overloaded not-sent']).toBe(0)
})

test('a broker whose acknowledgements all come too late is not cut off, and is used when it is faster', async () => {
  let delayMs = 1000
  const { publish, seen, outcomes } = startQueue(900, () => delayMs)
  for (let time = 0; time < 10_000; time += 50) {
    void publish()
    await vi.advanceTimersByTimeAsync(50)
  }
  expect([outcomes['acknowledged'], seen.cuts]).toEqual([undefined, 0])
  // Once it is known to be that slow, only now and then one is sent to see whether it is faster.
  expect(outcomes['overloaded not-sent']).toBeGreaterThan(150)
  delayMs = 1
  for (let time = 0; time < 5000; time += 50) {
    void publish()
    await vi.advanceTimersByTimeAsync(50)
  }
  expect(outcomes['acknowledged']).toBeGreaterThan(50)
  expect(seen.cuts).toBe(0)
})

test('a broker that acknowledges nothing for the whole timeout is cut off', async () => {
  let delayMs = 1
  const { publish, seen, outcomes } = startQueue(1000, () => delayMs)
  void publish()
  await vi.advanceTimersByTimeAsync(500)
  expect(outcomes).toEqual({ acknowledged: 1 })
  delayMs = 1e6
  for (let index = 0; index < 20; index += 1) void publish()
  await vi.advanceTimersByTimeAsync(999)
  expect([seen.cuts, outcomes]).toEqual([0, { acknowledged: 1 }])
  await vi.advanceTimersByTimeAsync(1)
  expect([seen.cuts, outcomes]).toEqual([1, { acknowledged: 1, 'acknowledgement-timeout unknown': 20 }])
})

test('a batch waits for a slow broker, and no message of it fails', async () => {
  const { queue, publish, seen, outcomes } = startQueue(1000, () => 100)
  const admission = new BatchAdmission(queue)
  for (let index = 0; index < 1000; index += 1) {
    const start = () => void publish().then(() => admission.leave())
    if (admission.tryEnter(message)) start()
    else admission.wait('a', message, start)
  }
  await vi.advanceTimersByTimeAsync(10_000)
  expect([outcomes, seen]).toEqual([{ acknowledged: 1000 }, { sent: 1000, cuts: 0 }])
})
