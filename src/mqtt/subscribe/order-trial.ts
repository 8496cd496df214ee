import { setTimeout as delay } from 'node:timers/promises'
import type { NetworkConnection } from '../client/network-connection.ts'
import type { Learnt } from '../connection/learnt.ts'
import type { MarkerLine, Markers } from '../markers.ts'
import { withTimeout } from '../with-timeout.ts'

/** Messages that are on their way at the same time, as far as the broker takes so many, and how often that is tried. */
const MESSAGES_MAX = 16
const ROUNDS = 8
/**
 * Artemis mixes two messages where one comes just as the disk has the other, which is a matter of luck. Of messages
 * spread over time like this it mixed the first two after 50 in the middle, and after 210 at most; in the rounds above
 * only in every second trial.
 */
const SPREAD_MESSAGES = 400
const PAUSE_MAX_MS = 8
/** A broker that takes longer gets fewer. */
const SPREAD_MS = 800
/** So many unacknowledged publishes are made beside them. */
const OTHER_PUBLISHES_MAX = 4

/**
 * Finds out whether messages of one topic come in the order in which they were published, while several are on their
 * way at the same time. Artemis mixes those of a session that it keeps, as it waits for its disk with some of them.
 * @param isThorough whether to spread many messages over time, which takes up to a second
 * @returns undefined where that does not show
 */
export async function tryOrder(
  network: NetworkConnection,
  markers: Markers,
  line: MarkerLine,
  receiveMaximum: number,
  timeoutMs: number,
  isThorough: boolean,
): Promise<Learnt['order']> {
  const topic = `${markers.topic}/order`
  const count = Math.min(MESSAGES_MAX, receiveMaximum - OTHER_PUBLISHES_MAX)
  const came: number[] = []
  const stop = line.listen((message) => message.topic === topic && came.push(Number(message.payload.toString())))
  let published = 0

  async function publishNext(): Promise<void> {
    // The line goes on with the next connection, on which nothing may be sent: a session that has just begun would look
    // like the one before.
    const wasTaken = network.isOpen && (await line.publish({ topic, payload: Buffer.from(`${published++}`) }))
    // What comes again on the next connection comes out of order.
    if (!wasTaken) throw new Error('the connection was lost, or the broker refuses it')
  }

  async function publishSpread(): Promise<void> {
    const untilMs = performance.now() + SPREAD_MS
    async function publishSome(): Promise<void> {
      while (published < SPREAD_MESSAGES && performance.now() < untilMs) {
        await publishNext()
        await delay(Math.random() * PAUSE_MAX_MS)
      }
    }
    await Promise.all(Array.from({ length: count }, publishSome))
  }

  try {
    await network.subscribe(topic, 1, { identifier: undefined, retained: 'never' })
    if (isThorough) await withTimeout(publishSpread(), SPREAD_MS + timeoutMs)
    for (let round = 0; round < (isThorough ? 0 : ROUNDS); round += 1) {
      await withTimeout(Promise.all(Array.from({ length: count }, publishNext)), timeoutMs)
    }
    // Where the order is not kept, some may come behind the first marker.
    for (let trips = 0; trips < 2; trips += 1) {
      if (!network.isOpen || !(await withTimeout(line.arrived(line.source, line.send()), timeoutMs))) return undefined
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
