import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connectAsync } from 'mqtt'
import type { Fault, World } from '../fault.ts'

/** What a connection of the bridge may have unacknowledged at Mosquitto, and how many publish by default. */
const RECEIVE_MAXIMUM = 20
const PUBLISH_CONNECTIONS = 2

const outage = (seconds: number, more: Partial<Fault> = {}): Fault => ({
  name: `outage-${seconds}s`,
  what: `every connection is cut, new ones are refused for ${seconds} s`,
  issue: '16.6',
  withinSeconds: 2,
  ...more,
  async strike({ proxy, seconds: wait }) {
    await proxy.refuse()
    await wait(seconds)
    await proxy.accept()
  },
})

/** A moment that the seed decides, so that a fault does not always meet the load at the same place. */
const aMoment = ({ random, seconds }: World) => seconds(random.next() / 2)

export const linkFaults: readonly Fault[] = [
  {
    name: 'calm',
    what: 'nothing happens, for comparison',
    brief: true,
    strike: ({ seconds }) => seconds(2),
  },
  {
    name: 'link-cut',
    what: 'every connection is reset once',
    issue: '18',
    brief: true,
    async strike(world) {
      await aMoment(world)
      world.proxy.cut()
    },
  },
  outage(2, { brief: true }),
  outage(5),
  outage(20),
  outage(60, { watchSeconds: 30 }),
  {
    name: 'outage-20s-ten-bridges',
    what: 'ten bridges, every connection is cut, new ones are refused for 20 s',
    issue: '16.6',
    withinSeconds: 2,
    bridge: { count: 10 },
    async strike({ proxy, seconds, bridges, until, note, isOver }) {
      await proxy.refuse()
      await seconds(20)
      await proxy.accept()
      isOver()
      const endedAt = performance.now()
      const firstSuccesses = await Promise.all(
        bridges.map(async ({ url }) => {
          await until('a first 200', 30, async () => {
            const response = await fetch(`${url}/publish?topic=first&qos=1`, { method: 'POST', body: 'x' })
            await response.text()
            return response.status === 200
          })
          return (performance.now() - endedAt) / 1000
        }),
      )
      const sorted = firstSuccesses.sort((one, other) => one - other).map((value) => value.toFixed(1))
      note(`until a bridge's first 200: median ${sorted[5]} s, at worst ${sorted[9]} s`)
    },
  },
  {
    name: 'outage-behind-proxy',
    what: 'a load balancer accepts connections for 5 s and resets them after CONNECT; the broker has lost nothing',
    issue: '16.11',
    withinSeconds: 2,
    http: { qos: [1, 2] },
    mqtt: { qos: [1, 2] },
    async strike({ proxy, seconds, readers, until, breaks, isOver }) {
      proxy.resetAll(true)
      await seconds(5)
      proxy.resetAll(false)
      isOver()
      const knows = (reader: (typeof readers)[number]) =>
        reader.history.findLast((happening) => happening.kind === 'status')?.isConnected === true
      await until('the streams say that the broker is back', 20, () => readers.slice(0, 2).every(knows))
      const gaps = readers.flatMap(({ history }) => history.filter(({ kind }) => kind === 'gap'))
      if (gaps.length > 0) breaks(`${gaps.length} gaps, though the broker kept everything`)
    },
  },
  {
    name: 'queue-overflow',
    what: 'the link is away for 4 s at 600 messages/s; Mosquitto as it comes queues 1,000 for a client',
    issue: '16.2',
    broker: { config: ['max_queued_messages 1000'] },
    http: { rate: 60, qos: [1] },
    mqtt: { rate: 600, qos: [1] },
    async strike({ proxy, seconds }) {
      await proxy.refuse()
      await seconds(4)
      await proxy.accept()
    },
  },
  {
    name: 'delay-300ms',
    what: 'the link takes 300 ms there and back, for 10 s',
    issue: '18',
    async strike({ proxy, seconds }) {
      proxy.delay(150)
      await seconds(10)
      proxy.delay(0)
    },
  },
  {
    name: 'delay-600ms-overload',
    what: 'the link takes 600 ms there and back, for 20 s at three times what its publishing connections can carry',
    issue: '16.3',
    http: { rate: (3 * PUBLISH_CONNECTIONS * RECEIVE_MAXIMUM) / 0.6, qos: [1] },
    mqtt: { rate: 20 },
    watchSeconds: 30,
    async strike({ proxy, seconds, ledger, breaks, bridges }) {
      proxy.delay(300)
      await seconds(20)
      proxy.delay(0)
      const unavailable = ledger.publications.filter(({ answer }) => answer?.startsWith('503 broker-unavailable'))
      if (unavailable.length > 0) {
        breaks(`${unavailable.length} times broker-unavailable, though the broker answered all the time`)
      }
      const reconnects = await total(bridges[0]!.url, 'causeway_mqtt_reconnects_total')
      if (reconnects > 0) breaks(`${reconnects} reconnects of healthy connections`)
    },
  },
  {
    name: 'throttle-10KB',
    what: 'each connection carries 10 KB/s each way, for 10 s',
    issue: '18',
    async strike({ proxy, seconds }) {
      proxy.throttle(10_000)
      await seconds(10)
      proxy.throttle(Infinity)
    },
  },
  {
    name: 'throttle-long-message',
    what: 'a message is longer on the wire than 1.5 keepalives: 150 KB at 10 KB/s, keepalive 5 s',
    issue: '16.8',
    settings: { MQTT_KEEPALIVE_S: 5 },
    http: { rate: 5, qos: [1] },
    mqtt: { rate: 5, qos: [1] },
    async strike({ proxy, broker, seconds, readers, until, breaks }) {
      proxy.throttle(10_000)
      const publisher = await connectAsync(broker.url)
      await publisher.publishAsync('chaos/sure/long', 'x'.repeat(150_000), { qos: 1 })
      await publisher.endAsync()
      await seconds(16)
      const since = performance.now()
      const flows = ({ history }: (typeof readers)[number]) =>
        history.some(({ kind, at }) => kind === 'message' && at > since)
      // The four that it goes to.
      await until('messages behind the long one', 30, () => readers.slice(0, 4).every(flows)).catch(() => {
        const blocked = readers.slice(0, 4).filter((reader) => !flows(reader))
        breaks(`blocked behind the long message: ${blocked.map(({ spec }) => spec.name).join(', ')}`)
      })
      proxy.throttle(Infinity)
    },
  },
  {
    name: 'half-open',
    what: 'the connections there are carry nothing any more and do not end; new ones pass',
    issue: '16.7',
    watchSeconds: 60,
    // A publish waits 10 s for its acknowledgement; whoever suspects then asks the other connections.
    withinSeconds: 20,
    async strike(world) {
      await aMoment(world)
      world.proxy.halfOpen()
    },
  },
  {
    name: 'up-lost',
    what: 'nothing reaches the broker for 8 s; what it sends arrives',
    issue: '18',
    withinSeconds: null,
    async strike({ proxy, seconds }) {
      proxy.hold('up')
      await seconds(8)
      proxy.flow()
    },
  },
  {
    name: 'down-lost',
    what: 'nothing comes from the broker for 8 s; what is sent reaches it',
    issue: '18',
    withinSeconds: null,
    async strike({ proxy, seconds }) {
      proxy.hold('down')
      await seconds(8)
      proxy.flow()
    },
  },
  {
    name: 'black-hole',
    what: 'nothing passes either way for 20 s, on new connections neither',
    issue: '18',
    withinSeconds: null,
    watchSeconds: 40,
    async strike({ proxy, seconds }) {
      proxy.hold('up', 'down')
      await seconds(20)
      proxy.flow()
    },
  },
  {
    name: 'qos2-pubrec-lost',
    what: '20 PUBRECs of each connection are lost, all are cut, the first reconnects are reset; three more cuts',
    issue: '16.1',
    brief: true,
    async strike({ proxy, until, bridges: [bridge], seconds, ledger, breaks }) {
      let lost = 0
      proxy.rule((direction, { type }) => {
        if (direction !== 'down' || type !== 'pubrec') return 'pass'
        lost += 1
        return 'drop'
      })
      // More than the windows of all connections take, over enough topics that each connection has some.
      const publishes = Array.from({ length: 8 * RECEIVE_MAXIMUM }, async (_, index) => {
        const topic = `pubrec-lost/${index % 8}`
        const answer = await fetch(`${bridge!.url}/publish?topic=${topic}&qos=2`, { method: 'POST', body: 'x' })
        await answer.text()
      })
      await until('all windows are full', 10, () => lost === PUBLISH_CONNECTIONS * RECEIVE_MAXIMUM)
      proxy.rule(undefined)
      proxy.resetNext(proxy.connections)
      proxy.cut()
      await Promise.allSettled(publishes)
      for (let round = 0; round < 3; round += 1) {
        await seconds(1)
        proxy.cut()
      }
      await seconds(1)
      const refused = ledger.publications.filter(({ answer }) => answer?.startsWith('429')).length
      if (refused > 0) breaks(`${refused} times 429, as the bridge owes the broker 20 PUBRELs`)
    },
  },
  {
    name: 'reconnects-reset',
    what: 'five times at 150 QoS 2/s: every connection is cut, the first reconnects are reset',
    issue: '16.1',
    http: { rate: 200, qos: [2, 2, 2, 1] },
    async strike({ proxy, seconds, random }) {
      for (let round = 0; round < 5; round += 1) {
        proxy.resetNext(proxy.connections)
        proxy.cut()
        await seconds(1 + random.next())
      }
    },
  },
  {
    name: 'dns-moved',
    what: "the broker's name leads to another address; the old one carries nothing any more and refuses",
    issue: '18',
    withinSeconds: 20,
    watchSeconds: 60,
    skip: () => (process.getuid?.() === 0 ? undefined : 'needs root for a hosts file of its own'),
    bridge: {
      host: 'broker.test',
      hostsFile(stage) {
        const path = join(stage.directory, 'hosts')
        writeFileSync(path, '127.0.0.1 localhost broker.test\n')
        stage.onEnd(() => rmSync(path, { force: true }))
        return path
      },
    },
    async strike({ proxy, stage }) {
      // Written in place: the bridge sees this file through a bind mount.
      writeFileSync(join(stage.directory, 'hosts'), '127.0.0.1 localhost\n127.0.0.2 broker.test\n')
      await proxy.moveTo('127.0.0.2')
    },
  },
]

/** The sum over a metric's series. */
async function total(url: string, metric: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const values = text.split('\n').filter((line) => line.startsWith(`${metric}{`) || line.startsWith(`${metric} `))
  return values.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
}
