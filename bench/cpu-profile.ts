/** What `node --cpu-prof` writes; times in microseconds. */
export interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string }; children?: number[] }[]
  samples: number[]
  timeDeltas: number[]
}

/** What a process does, in the order of the table. A function belongs to the first that knows it. */
const COSTS: readonly (readonly [string, (name: string, url: string) => boolean])[] = [
  [
    'writing answers to their sockets, a system call each',
    (name) => name === 'writev' || /^write(Utf8|Latin1)String$/.test(name),
  ],
  ['writing to the broker, a system call for each turn of the loop', (name) => name === 'writeBuffer'],
  ['collecting garbage', (name) => name === '(garbage collector)'],
  ['reading sockets, parsing HTTP, waking up: native code outside JavaScript', (name) => name === '(program)'],
  ['Node’s HTTP', (_name, url) => /^node:(internal\/)?_?http/.test(url)],
  [
    'the rest of Node: streams, sockets, events, timers, promises',
    (name, url) => url.startsWith('node:') || name === 'runMicrotasks',
  ],
  [
    'MQTT.js and mqtt-packet',
    (_name, url) => /\/node_modules\/(mqtt|mqtt-packet|bl|readable-stream|debug|worker-timers)\//.test(url),
  ],
  ['Fastify: routing, hooks, JSON in and out', (_name, url) => url.includes('/node_modules/')],
  ['the bridge’s HTTP: credentials, limits, turns, messages', (_name, url) => /\/dist\/(http|auth)\//.test(url)],
  ['the bridge’s MQTT: topic rules, queues, timeouts', (_name, url) => /\/dist\/mqtt\//.test(url)],
  ['the bridge’s rest: metrics, links', (_name, url) => url.includes('/dist/')],
  ['the baselines’ own', (_name, url) => url.includes('/bench/')],
  // What Ajv and the router compile has no file, nor have V8's own functions.
  ['validation, and functions of V8 itself', () => true],
]

export const COST_NAMES = COSTS.map(([title]) => title)

/**
 * Microseconds of each second that a process that serves HTTP spent on each of `COST_NAMES`; what it was idle for is in none.
 * @param skipS seconds left out behind the first request
 * @param seconds looked at behind them
 */
export function costs(
  { nodes, samples, timeDeltas }: CpuProfile,
  { skipS, seconds }: { skipS: number; seconds: number },
): number[] {
  const costOf = new Map(
    nodes.map(({ id, callFrame }) => [
      id,
      COSTS.findIndex(([, knows]) => knows(callFrame.functionName, callFrame.url)),
    ]),
  )
  const idle = nodes.find(({ callFrame }) => callFrame.functionName === '(idle)')?.id
  const requests = calledBy('parserOnHeadersComplete', nodes)
  const sums = COSTS.map(() => 0)
  let at = 0
  let from = Infinity
  for (const [index, id] of samples.entries()) {
    const delta = timeDeltas[index]!
    at += delta
    if (from === Infinity && requests.has(id)) from = at + skipS * 1e6
    if (at >= from && at < from + seconds * 1e6 && id !== idle) sums[costOf.get(id)!]! += delta
  }
  return sums.map((sum) => sum / seconds)
}

/** A function wherever it was called, and all that it called. */
function calledBy(name: string, nodes: CpuProfile['nodes']): ReadonlySet<number> {
  const childrenOf = new Map(nodes.map(({ id, children = [] }) => [id, children]))
  const found = new Set(nodes.filter(({ callFrame }) => callFrame.functionName === name).map(({ id }) => id))
  // Those that are added while it goes on have their turn, too.
  for (const id of found) for (const child of childrenOf.get(id)!) found.add(child)
  return found
}
