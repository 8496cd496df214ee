import type { NetworkConnection } from '../client/network-connection.ts'
import type { Learnt } from '../connection/learnt.ts'
import type { MarkerLine, Markers } from '../markers.ts'
import { withTimeout } from '../with-timeout.ts'

/** Messages that are on their way at the same time, as far as the broker takes so many, and how often that is tried. */
const MESSAGES_MAX = 16
const ROUNDS = 8
/** So many unacknowledged publishes are made beside them. */
const OTHER_PUBLISHES_MAX = 4

/**
 * Finds out whether messages of one topic come in the order in which they were published, while several are on their
 * way at the same time. Artemis mixes those of a session that it keeps, as it waits for its disk with some of them.
 * @returns undefined where that does not show
 */
export async function tryOrder(
  network: NetworkConnection,
  markers: Markers,
  line: MarkerLine,
  receiveMaximum: number,
  timeoutMs: number,
): Promise<Learnt['order']> {
  const topic = `${markers.topic}/order`
  const count = Math.min(MESSAGES_MAX, receiveMaximum - OTHER_PUBLISHES_MAX)
  const came: number[] = []
  const stop = line.listen((message) => message.topic === topic && came.push(Number(message.payload.toString())))
  try {
    await network.subscribe(topic, 1, { identifier: undefined, retained: 'never' })
    for (let round = 0; round < ROUNDS; round += 1) {
      const first = round * count
      const taken = Array.from({ length: count }, (_, index) =>
        line.publish({ topic, payload: Buffer.from(`${first + index}`) }),
      )
      await withTimeout(Promise.all(taken), timeoutMs)
    }
    // Where the order is not kept, some may come behind the first marker.
    for (let trips = 0; trips < 2; trips += 1) {
      if (!(await withTimeout(line.arrived(line.source, line.send()), timeoutMs))) return undefined
    }
    if (came.length < 2) return undefined
    return came.every((number, index) => index === 0 || number > came[index - 1]!) ? 'kept' : 'mixed'
  } catch {
    return undefined
  } finally {
    stop()
    network.unsubscribe(topic).catch(() => {})
  }
}
