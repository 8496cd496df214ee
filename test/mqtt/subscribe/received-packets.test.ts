import { expect, test } from 'vitest'
import { ReceivedPackets } from '../../../src/mqtt/subscribe/received-packets.ts'

const message = (payload: string) => ({ topic: 'a', payload: Buffer.from(payload), qos: 1, retain: false }) as const
const sent = (messageId: number) => ({ messageId, dup: false })
const again = (messageId: number) => ({ messageId, dup: true })

/** What a broker that counts its identifiers on has shown. */
function counting(): ReceivedPackets {
  const packets = new ReceivedPackets()
  packets.isKnown(message('x'), sent(7))
  packets.acknowledged()
  packets.isKnown(message('x'), sent(8))
  packets.isKnown(message('y'), sent(9))
  return packets
}

test('a packet that comes again is known once the broker has shown that it counts on', () => {
  const packets = counting()
  packets.reconnected()
  expect(packets.isKnown(message('x'), again(8))).toBe(true)
  expect(packets.isKnown(message('other'), again(9))).toBe(false)
  // The same one is known once.
  expect(packets.isKnown(message('x'), again(8))).toBe(false)
})

test.each([
  ['it does not say that it sends it again', counting, sent(8)],
  ['the identifier is another one', counting, again(10)],
  [
    'the broker takes the lowest free identifier',
    () => {
      const packets = new ReceivedPackets()
      packets.isKnown(message('x'), sent(8))
      packets.acknowledged()
      packets.isKnown(message('x'), sent(8))
      return packets
    },
    again(8),
  ],
  [
    'nothing shows how the broker counts',
    () => {
      const packets = new ReceivedPackets()
      packets.isKnown(message('x'), sent(8))
      return packets
    },
    again(8),
  ],
])('a packet with the same content is not known where %s', (_why, create, receipt) => {
  const packets = create()
  packets.reconnected()
  expect(packets.isKnown(message('x'), receipt)).toBe(false)
})

test('nothing is known behind a first packet with the identifier 1, nor in another session', () => {
  const restarted = counting()
  restarted.reconnected()
  restarted.isKnown(message('z'), again(1))
  expect(restarted.isKnown(message('x'), again(8))).toBe(false)
  const other = counting()
  other.reset()
  other.reconnected()
  expect(other.isKnown(message('x'), again(8))).toBe(false)
})

test('what is remembered is bounded', () => {
  const packets = counting()
  for (let messageId = 10; messageId < 10_000; messageId += 1) packets.isKnown(message('x'), sent(messageId))
  packets.isKnown({ ...message(''), payload: Buffer.alloc(2_000_000) }, sent(10_000))
  packets.reconnected()
  expect(packets.isKnown(message('x'), again(8))).toBe(false)
  expect(packets.isKnown({ ...message(''), payload: Buffer.alloc(2_000_000) }, again(10_000))).toBe(false)
})
