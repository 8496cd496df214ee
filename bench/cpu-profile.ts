/** A file of `node --cpu-prof`. Times are in microseconds. */
export interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string }; children?: number[] }[]
  samples: number[]
  timeDeltas: number[]
}

/** What a process spends its time on, in the order of the table. A function counts for the first entry that matches. */
const COSTS: readonly (readonly [title: string, matches: (name: string, url: string) => boolean])[] = [
  [
    'writing answers to their sockets, a system call each',
    (name) => name === 'writev' || /^write(Utf8|Latin1)String$/.test(name),
  ],
  ['writing to the broker, a system call for each turn of the event loop', (name) => name === 'writeBuffer'],
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
  [
    'the bridge’s HTTP: credentials, limits, pipelining, messages',
    (_name, url) => /\/dist\/(http|auth)\.js$/.test(url),
  ],
  ['the bridge’s MQTT: topic rules, queues, timeouts', (_name, url) => url.endsWith('/dist/mqtt.js')],
  ['the bridge’s rest: metrics, links', (_name, url) => url.includes('/dist/')],
  ['the baselines’ own', (_name, url) => url.includes('/bench/')],
  // Functions that Ajv and the router compile have no file; neither have V8's own.
  ['validation, and functions of V8 itself', () => true],
]

export const COST_NAMES = COSTS.map(([title]) => title)

/**
 * How many microseconds of each second a process that serves HTTP spent on each of `COST_NAMES`. Idle time is left out.
 * @param skipS seconds after the first request that are left out
 * @param seconds length of the part after those that counts
 */
export function costs(
  { nodes, samples, timeDeltas }: CpuProfile,
  { skipS, seconds }: { skipS: number; seconds: number },
): number[] {
  const costOf = new Map(
    nodes.map(({ id, callFrame }) => [
      id,
      COSTS.findIndex(([, matches]) => matches(callFrame.functionName, callFrame.url)),
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

/** The ids of a function wherever it was called, and of everything that it called. */
function calledBy(name: string, nodes: CpuProfile['nodes']): ReadonlySet<number> {
  const childrenOf = new Map(nodes.map(({ id, children = [] }) => [id, children]))
  const found = new Set(nodes.filter(({ callFrame }) => callFrame.functionName === name).map(({ id }) => id))
  // A set also iterates over the ids that are added on the way.
  for (const id of found) for (const child of childrenOf.get(id)!) found.add(child)
  return found
}
