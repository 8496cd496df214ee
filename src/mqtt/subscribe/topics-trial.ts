import type { NetworkConnection } from '../client/network-connection.ts'
import type { MarkerLine, Markers } from '../markers.ts'
import { withTimeout } from '../with-timeout.ts'

/** Characters that brokers are known to use for themselves: RabbitMQ hands on `a.b*` as `a/b+`. */
export const SUSPECT_CHARACTERS = '.*'

/**
 * Finds out which characters of topics the broker changes, with messages of its own.
 * @returns undefined where that does not show
 */
export async function tryTopics(
  network: NetworkConnection,
  markers: Markers,
  line: MarkerLine,
  timeoutMs: number,
): Promise<string | undefined> {
  const topics = [...SUSPECT_CHARACTERS].map((character) => `${markers.topic}/topics/a${character}b`)
  const filters = [...topics, `${markers.topic}/topics/#`]
  const came = new Set<string>()
  const stop = line.listen(({ topic }) => came.add(topic))
  try {
    // NATS refuses filters whose topics it would close the connection over, so nothing is published there.
    const subscribed = filters.map((filter) =>
      network.subscribe(filter, 1, { identifier: undefined, retained: 'never' }),
    )
    await withTimeout(Promise.all(subscribed), timeoutMs)
    for (const topic of topics) void line.publish({ topic, payload: Buffer.alloc(0) })
    for (let trips = 0; trips < 2; trips += 1) await withTimeout(line.arrived(line.source, line.send()), timeoutMs)
    const changed = topics.filter((topic) => !came.has(topic))
    // Where some come as they are or as others, the rest is changed; where nothing comes, nothing is known.
    return came.size === 0
      ? undefined
      : [...SUSPECT_CHARACTERS].filter((_, at) => changed.includes(topics[at]!)).join('')
  } catch {
    return undefined
  } finally {
    stop()
    for (const filter of filters) network.unsubscribe(filter).catch(() => {})
  }
}
