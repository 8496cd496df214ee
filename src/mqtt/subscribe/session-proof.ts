import type { NetworkConnection } from '../client/network-connection.ts'
import type { MarkerLine, Markers } from '../markers.ts'
import { untilSilent } from '../retained/until-silent.ts'
import { withTimeout } from '../with-timeout.ts'

export interface SessionProofOptions {
  network: NetworkConnection
  markers: Markers
  /** Its subscription to the markers was made in the session that is to be proved. */
  line: MarkerLine
  timeoutMs: number
  /** Whether the network connection is still there. */
  isHere(): boolean
  /** Whether a message below the marker topic came for a subscription of ours, whatever its topic. */
  isOwn(identifiers: readonly number[]): boolean
  /** Nothing comes: the queue may be full. */
  silent(): void
}

/** How often the marker may be dropped, as the queue was full, before the session is taken for another client's. */
const MISSES_MAX = 3

/**
 * Finds out whose session a broker has continued. That there is one says nothing: another client with the same client
 * id may have begun it. In it are subscriptions of that client, and none of ours.
 *
 * Three messages are published, behind all that the session holds. Of the topic of the first one nobody has a
 * subscription, so if it comes it is by a wildcard of another client. The second one is a marker: only our session has
 * a subscription to it. The third one, the fence, is subscribed to on this connection, whoever began the session: where
 * it comes without the marker, the session is not ours, or the queue had no room for the marker.
 *
 * @returns `isWhole`: the first marker came, so the queue had room for it. Undefined where it does not show, as the
 *   connection was lost or the broker refuses the fence
 */
export async function proveSession(
  options: SessionProofOptions,
): Promise<{ isOurs: boolean; isWhole: boolean } | undefined> {
  const { network, markers, line, timeoutMs, isHere, isOwn, silent } = options
  // One level below the topic of all markers, and not below our own one, where trials have wildcards.
  const [stray, fence] = [`${markers.topic}-stray`, `${markers.topic}-fence`]
  let hasStrayed = false
  let fences = 0
  let fenceCame = (): void => {}
  const stop = line.listen(({ topic, payload }, identifiers) => {
    if (topic === stray && !isOwn(identifiers)) hasStrayed = true
    if (topic === fence && Number(payload.toString()) === fences) fenceCame()
  })
  try {
    const granted = network.subscribe(fence, 1, { identifier: undefined, retained: 'never' })
    for (let misses = 0; misses < MISSES_MAX;) {
      void line.publish({ topic: stray, payload: Buffer.alloc(0) })
      const marker = line.arrived(line.source, line.send()).then((isThere) => (isThere ? 'marker' : 'lost'))
      fences += 1
      let isFenced = false
      const fenced = new Promise<'fence'>((resolve) => {
        fenceCame = () => {
          isFenced = true
          resolve('fence')
        }
      })
      void line.publish({ topic: fence, payload: Buffer.from(`${fences}`) })
      await withTimeout(granted, timeoutMs)
      let first = await untilSilent(Promise.race([marker, fenced]), () => network.bytesRead, timeoutMs).catch(() => {})
      // Some brokers mix the order a little.
      if (first === 'fence') first = await Promise.race([marker, withTimeout(network.roundTrip(), timeoutMs)])
      if (!isHere() || first === 'lost') return undefined
      if (hasStrayed) return { isOurs: false, isWhole: true }
      if (first === 'marker') return { isOurs: true, isWhole: fences === 1 }
      if (isFenced) misses += 1
      else silent()
    }
    return { isOurs: false, isWhole: true }
  } catch {
    return undefined
  } finally {
    stop()
    if (isHere()) network.unsubscribe(fence).catch(() => {})
  }
}
