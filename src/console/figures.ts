/** What the page takes from `/metrics`, and what it makes of two of them in a row. */
export interface Figures {
  at: number
  /** Sums over all labels, by name. */
  sums: Map<string, number>
  /** Acknowledgements within a time, in seconds, over all QoS: the buckets of the histogram, ascending. */
  buckets: { within: number; count: number }[]
}

const BUCKETS = 'causeway_publish_ack_seconds_bucket'
const LINE = /^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)/

/** Reads the Prometheus text format. */
export function readFigures(text: string, at: number): Figures {
  const sums = new Map<string, number>()
  const counts = new Map<number, number>()
  for (const line of text.split('\n')) {
    if (!line.startsWith('causeway_')) continue
    const [, name, labels = '', value] = LINE.exec(line) ?? []
    if (name === undefined) continue
    const number = Number(value)
    if (name === BUCKETS) {
      const within = Number((/le="([^"]+)"/.exec(labels)?.[1] ?? '').replace('+Inf', 'Infinity'))
      counts.set(within, (counts.get(within) ?? 0) + number)
    } else {
      sums.set(name, (sums.get(name) ?? 0) + number)
    }
  }
  const buckets = [...counts].map(([within, count]) => ({ within, count })).sort((a, b) => a.within - b.within)
  return { at, sums, buckets }
}

/** A counter's growth a second. After a restart of the bridge it starts again at 0. */
export function rateBetween(before: Figures, now: Figures, name: string): number {
  const [from, to] = [before.sums.get(name) ?? 0, now.sums.get(name) ?? 0]
  const seconds = (now.at - before.at) / 1000
  return seconds <= 0 ? 0 : (to < from ? to : to - from) / seconds
}

/**
 * A quantile of the acknowledgement times between two readings, in milliseconds, by interpolation in its bucket, as
 * Prometheus does it. Undefined where nothing was acknowledged in between.
 */
export function latencyBetween(before: Figures, now: Figures, quantile: number): number | undefined {
  const earlier = new Map(before.buckets.map(({ within, count }) => [within, count]))
  const buckets = now.buckets.map(({ within, count }) => ({ within, count: count - (earlier.get(within) ?? 0) }))
  const total = buckets.at(-1)?.count ?? 0
  if (total <= 0) return undefined
  const wanted = quantile * total
  let [lower, below] = [0, 0]
  for (const { within, count } of buckets) {
    if (count >= wanted) {
      // Nothing is known of how far the last bucket reaches.
      if (within === Infinity) return lower * 1000
      return 1000 * (lower + ((within - lower) * (wanted - below)) / Math.max(count - below, 1e-9))
    }
    lower = within
    below = count
  }
  return undefined
}
