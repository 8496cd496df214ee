import { expect, test } from 'vitest'
import { type Bridge, metric, type Settings, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { startProxy } from '../support/proxy.ts'
import { type Faults, linkFaults, stolenSession } from '../support/storm/faults.ts'
import { Random } from '../support/storm/random.ts'
import { Storm } from '../support/storm/storm.ts'

/**
 * CAUSEWAY_TEST_SEED makes a run again, as far as timing lets it. CAUSEWAY_TEST_OPERATIONS makes it longer;
 * CAUSEWAY_TEST_FAULTS, a list, leaves out all faults but these.
 */
const { CAUSEWAY_TEST_SEED, CAUSEWAY_TEST_OPERATIONS, CAUSEWAY_TEST_FAULTS } = process.env
const SEED = CAUSEWAY_TEST_SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(CAUSEWAY_TEST_SEED)
const OPERATIONS = Number(CAUSEWAY_TEST_OPERATIONS ?? 60)
const LIMIT_MS = 60_000 + OPERATIONS * 1000
const CLIENT_ID = 'storm'
/** Small enough to overrun a reader, short enough to lose a channel. */
const SETTINGS: Settings = {
  MQTT_CLIENT_ID: CLIENT_ID,
  STREAM_LINGER_MS: 500,
  STREAM_LOG_MESSAGES: 300,
  STREAM_LOG_BYTES: 2_000_000,
}

async function weather(name: string, bridge: Bridge, brokerUrl: string, random: Random, faults: Faults): Promise<void> {
  const run = `${name}: CAUSEWAY_TEST_SEED=${SEED} CAUSEWAY_TEST_OPERATIONS=${OPERATIONS}`
  console.log(`storm on ${run}`)
  const storm = new Storm({
    url: bridge.url,
    brokerUrl,
    random,
    operations: OPERATIONS,
    faults: CAUSEWAY_TEST_FAULTS === undefined ? faults : only(faults, CAUSEWAY_TEST_FAULTS.split(',')),
    isReachable: bridge.isReachable,
  })
  await storm.run()
  console.log(`storm on ${name}: ${storm.summary()}`)
  expect(storm.breaches(), run).toEqual([])
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
    const random = new Random(SEED)
    await weather(
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
    // A queue that overflows while the bridge is away loses messages, and nothing in MQTT would say so.
    const broker = await startMosquitto({ persistence: true, config: ['max_queued_messages 0'] })
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ ...SETTINGS, MQTT_URL: proxy.url, MQTT_PROTOCOL: setting })
    const random = new Random(SEED)
    const faults = {
      ...linkFaults(proxy, random.fork(), broker),
      ...stolenSession({ clientId: CLIENT_ID, protocolVersion, brokerUrl: broker.url }),
    }
    await weather(name, bridge, broker.url, random, faults)
  },
)
