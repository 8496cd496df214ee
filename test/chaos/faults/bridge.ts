import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { Agent, get } from 'node:http'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join, resolve } from 'node:path'
import { connectAsync } from 'mqtt'
import type { Fault, World } from '../fault.ts'
import { keyOf, type Ledger, type Publication } from '../ledger.ts'
import { SURE } from '../load.ts'

const CLOCK = resolve(import.meta.dirname, '../clock.mjs')
const HOUR_MS = 3_600_000

const clockFile = (stage: World['stage']) => join(stage.directory, 'clock')

const clockJump = (name: string, what: string, offsetMs: number): Fault => ({
  name,
  what,
  issue: '18',
  bridge: {
    preload: (stage) => ({ path: CLOCK, environment: { CHAOS_CLOCK_FILE: clockFile(stage) } }),
  },
  async strike({ stage, bridges: [bridge], seconds }) {
    writeFileSync(clockFile(stage), String(offsetMs))
    bridge!.program.signal('SIGUSR2')
    await seconds(0.1)
  },
})

export const bridgeFaults: readonly Fault[] = [
  {
    name: 'bridge-sigterm',
    what: 'SIGTERM under load; started again once it is gone',
    issue: '18',
    brief: true,
    strike: ({ restartBridge }) => restartBridge(0, 'SIGTERM'),
  },
  {
    name: 'bridge-sigkill',
    what: 'SIGKILL under load; started again at once',
    issue: '18',
    brief: true,
    strike: ({ restartBridge }) => restartBridge(0, 'SIGKILL'),
  },
  {
    name: 'bridge-frozen-10s',
    what: 'SIGSTOP for 10 s',
    issue: '18',
    async strike({ bridges: [bridge], seconds }) {
      bridge!.program.signal('SIGSTOP')
      await seconds(10)
      bridge!.program.signal('SIGCONT')
    },
  },
  {
    name: 'bridge-starved',
    what: 'it gets a tenth of a processor for 15 s, in slices of 10 ms',
    issue: '18',
    async strike({ bridges: [bridge], seconds }) {
      const until = performance.now() + 15_000
      while (performance.now() < until) {
        bridge!.program.signal('SIGSTOP')
        await seconds(0.09)
        bridge!.program.signal('SIGCONT')
        await seconds(0.01)
      }
    },
  },
  {
    name: 'bridge-heap-64MB',
    what: 'a heap of 64 MB, 40 streams that read nothing, and 1,000 messages of 100 KB in 10 s',
    issue: '18',
    bridge: { heapMegabytes: 64 },
    async strike(world) {
      const leave = await openIdleStreams(world, 40, () => ['big/%23'], false)
      await publishMany(world, 1000, 100, () => 'big/a', 'x'.repeat(100_000))
      leave()
    },
  },
  {
    name: 'many-logs',
    what: '1,000 readers of users/ID/# and broadcast/#, 5,000 messages of 100 bytes to all of them, a heap of 256 MB',
    issue: '16.5',
    bridge: { heapMegabytes: 256 },
    http: { rate: 20 },
    mqtt: { rate: 20 },
    async strike(world) {
      const leave = await openIdleStreams(world, 1000, (index) => [`users/${index}/%23`, 'broadcast/%23'], true)
      const before = await residentMegabytes(world)
      await publishMany(world, 5000, 250, () => 'broadcast/all', 'x'.repeat(100))
      world.note(`resident memory from ${before} to ${await residentMegabytes(world)} MB`)
      leave()
    },
  },
  {
    name: 'overload',
    what: 'three times what its publishing connections can carry over a link of 200 ms, for 20 s',
    issue: '18',
    http: { rate: (3 * 2 * 20) / 0.2, qos: [1], bytes: 100 },
    mqtt: { rate: 20 },
    async strike({ proxy, ledger, readers, bridges: [bridge], seconds, note, breaks }) {
      proxy.delay(100)
      await seconds(2)
      const from = performance.now()
      const alive: number[] = []
      while (performance.now() < from + 20_000) {
        const askedAt = performance.now()
        await fetch(`${bridge!.url}/livez`).then((response) => response.text())
        alive.push(performance.now() - askedAt)
        await seconds(0.1)
      }
      const during = ledger.publications.filter(({ by, begunAt }) => by === 'http' && begunAt > from)
      const accepted = percentile99(during.filter(({ answer }) => answer === '200'))
      const shed = percentile99(during.filter(({ answer }) => answer?.startsWith('503')))
      const livez = Math.max(...alive)
      const events = readers
        .filter(({ spec }) => spec.filter === SURE)
        .map(({ arrivals }) => slowestEvent(ledger, arrivals, from, performance.now() - 2000))
      proxy.delay(0)
      note(
        `p99 of 200 ${Math.round(accepted)} ms, of 503 ${Math.round(shed)} ms, /livez at worst ${Math.round(livez)} ms, events ${Math.round(Math.max(...events))} ms`,
      )
      if (Math.max(...events) > 2000) breaks('streams stood still')
      if (accepted > 1000) breaks(`accepted publishes take ${Math.round(accepted)} ms (p99), not 1000`)
      if (shed > 50) breaks(`what is shed waits ${Math.round(shed)} ms (p99), not 50`)
      if (livez > 100) breaks(`/livez answers after ${Math.round(livez)} ms, not 100`)
    },
  },
  {
    name: 'collector-away',
    what: 'traces of all requests go to a collector that accepts connections and never answers, for 10 s',
    issue: '18',
    bridge: {
      async environment(stage) {
        const sockets = new Set<Socket>()
        const collector = createServer((socket) => sockets.add(socket.on('error', () => {})))
        collector.listen(0, '127.0.0.1')
        await once(collector, 'listening')
        stage.onEnd(() => {
          for (const socket of sockets) socket.destroy()
          collector.close()
        })
        const { port } = collector.address() as AddressInfo
        return { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`, OTEL_BSP_SCHEDULE_DELAY: '200' }
      },
    },
    strike: ({ seconds }) => seconds(10),
  },
  clockJump('clock-forward', "the bridge's clock jumps an hour ahead", HOUR_MS),
  clockJump('clock-back', "the bridge's clock jumps an hour back", -HOUR_MS),
]

/** How long the slowest event took that the load sent straight to the broker in this time; Infinity if it never came. */
function slowestEvent(ledger: Ledger, arrivals: ReadonlyMap<string, number>, from: number, until: number): number {
  const sent = ledger.publications.filter(
    ({ by, begunAt, qos }) => by === 'mqtt' && qos > 0 && begunAt > from && begunAt < until,
  )
  return Math.max(0, ...sent.map((publication) => (arrivals.get(keyOf(publication)) ?? Infinity) - publication.begunAt))
}

/** Streams that read all or nothing of what comes. Returns what ends them. */
async function openIdleStreams(
  { stage, bridges: [bridge] }: World,
  count: number,
  filters: (index: number) => string[],
  reads: boolean,
): Promise<() => void> {
  const { hostname, port } = new URL(bridge!.url)
  const sockets = await Promise.all(
    Array.from({ length: count }, (_, index) => {
      const socket = connect(Number(port), hostname)
      const query = filters(index)
        .map((filter) => `topic=${filter}`)
        .join('&')
      socket.write(`GET /subscribe?${query}&retained=false HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`)
      return new Promise<typeof socket>((done) => {
        socket.on('error', () => done(socket))
        socket.once('data', () => {
          if (reads) socket.resume()
          else socket.pause()
          done(socket)
        })
      })
    }),
  )
  const leave = () => sockets.forEach((socket) => socket.destroy())
  stage.onEnd(leave)
  return leave
}

/** Straight to the broker, at QoS 0. */
async function publishMany(
  { broker, seconds }: World,
  count: number,
  perSecond: number,
  topic: () => string,
  payload: string,
): Promise<void> {
  const publisher = await connectAsync(broker.url)
  const begunAt = performance.now()
  for (let sent = 0; sent < count; sent += 1) {
    await publisher.publishAsync(topic(), payload, { qos: 0 })
    const early = begunAt + (sent * 1000) / perSecond - performance.now()
    if (early > 10) await seconds(early / 1000)
  }
  await publisher.endAsync()
}

async function residentMegabytes({ bridges: [bridge] }: World): Promise<number> {
  const agent = new Agent()
  const text = await new Promise<string>((done) => {
    get(`${bridge!.url}/metrics`, { agent }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk
      })
      response.on('close', () => done(body))
    }).on('error', () => done(''))
  })
  const bytes = /^process_resident_memory_bytes (\S+)/m.exec(text)?.[1]
  return Math.round(Number(bytes) / 1e6)
}

function percentile99(publications: readonly Publication[]): number {
  const took = publications.map(({ begunAt, answeredAt = Infinity }) => answeredAt - begunAt).sort((a, b) => a - b)
  return took[Math.floor(took.length * 0.99)] ?? 0
}
