import { expect, test } from 'vitest'
import { type Bridge, metric, type Settings, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { startProxy } from '../support/proxy.ts'
import { type Faults, linkFaults, stolenSession } from '../support/storm/faults.ts'
import { Random } from '../support/storm/random.ts'
import { randomRun } from '../support/storm/random-run.ts'
import { Storm } from '../support/storm/storm.ts'

const { seed, operations, replay } = randomRun({ brief: 20, long: 80 })
/** A list such as `cut,steal` limits a run to these faults. */
const { CAUSEWAY_TEST_FAULTS } = process.env
const LIMIT_MS = 180_000 + operations * 1000
const CLIENT_ID = 'storm'
/** A log so small that readers fall behind it, and a linger so short that channels end while their readers are away. */
const SETTINGS: Settings = {
  MQTT_CLIENT_ID: CLIENT_ID,
  STREAM_LINGER_MS: 500,
  STREAM_LOG_MESSAGES: 300,
  STREAM_LOG_BYTES: 2_000_000,
}

async function runStorm(
  name: string,
  bridge: Bridge,
  brokerUrl: string,
  random: Random,
  faults: Faults,
): Promise<void> {
  console.log(`storm on ${name}: ${replay}`)
  const storm = new Storm({
    url: bridge.url,
    brokerUrl,
    random,
    operations,
    faults: CAUSEWAY_TEST_FAULTS === undefined ? faults : only(faults, CAUSEWAY_TEST_FAULTS.split(',')),
    isReachable: bridge.isReachable,
  })
  await storm.run()
  console.log(`storm on ${name}: ${storm.summary()}`)
  expect(storm.breaches(), `${name}: ${replay}`).toEqual([])
  storm.leave()
  await expect.poll(() => metric(bridge, 'causeway_subscription_filters'), { timeout: 10_000 }).toBe(0)
  expect(await metric(bridge, 'causeway_streams_open{format="sse"}')).toBe(0)
  expect(await metric(bridge, 'causeway_streams_open{format="ndjson"}')).toBe(0)
}

function only(faults: Faults, names: string[]): Faults {
  const wanted = Object.entries(faults).filter(([name]) => names.includes(name))
  return wanted.length > 0 ? Object.fromEntries(wanted) : { calm: async () => {} }
}

test(
  'in a storm on the embedded broker every reader gets every message once and in order, or is told of the gap',
  { timeout: LIMIT_MS },
  async () => {
    const bridge = await startBridge(SETTINGS)
    const brokerUrl = bridge.embeddedUrl!
    const random = new Random(seed)
    await runStorm(
      'the embedded broker',
      bridge,
      brokerUrl,
      random,
      stolenSession({ clientId: CLIENT_ID, protocolVersion: 4, brokerUrl }),
    )
  },
)

const PROTOCOLS = [
  { name: 'Mosquitto, MQTT 5', protocolVersion: 5, setting: 'auto' },
  { name: 'Mosquitto, MQTT 3.1.1', protocolVersion: 4, setting: '3.1.1' },
] as const

test.runIf(hasMosquitto).each(PROTOCOLS)(
  'in a storm on $name every reader gets every message once and in order, or is told of the gap',
  { timeout: LIMIT_MS },
  async ({ name, protocolVersion, setting }) => {
    // Mosquitto queues 1,000 messages for a client that is away and silently drops the rest. MQTT has no way to report
    // that, so the queue has no limit here.
    const broker = await startMosquitto({ persistence: true, config: ['max_queued_messages 0'] })
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ ...SETTINGS, MQTT_URL: proxy.url, MQTT_PROTOCOL: setting })
    const random = new Random(seed)
    const faults = {
      ...linkFaults(proxy, random.fork(), broker),
      ...stolenSession({ clientId: CLIENT_ID, protocolVersion, brokerUrl: broker.url }),
    }
    await runStorm(name, bridge, broker.url, random, faults)
  },
)
