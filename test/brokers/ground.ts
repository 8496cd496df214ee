import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { connectAsync, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import { type BridgeProcess, startBridge } from './bridge-process.ts'
import type { Account, BrokerProcess } from './broker-process.ts'
import { type Link, startLink } from './link.ts'
import { Limit, Wrong } from './outcome.ts'
import { openStream, PATIENCE_MS, refusal, type StreamEvent, type StreamReader } from './stream-reader.ts'

const ANSWER_MS = 20_000

export type Protocol = '5' | '3.1.1'

export interface Bridge extends BridgeProcess {
  /** Between it and its broker. */
  link: Link
  /** SIGTERM, after five seconds SIGKILL; the link ends with it. */
  leave(): Promise<void>
}

/**
 * A bridge that reaches its broker through a link, and has reached it if that is possible within ten seconds.
 * @param settings without their prefix `CAUSEWAY_`
 */
export async function startLinkedBridge(
  protocol: Protocol,
  brokerPort: number,
  settings: Record<string, string | number> = {},
): Promise<Bridge> {
  const link = await startLink(brokerPort)
  const bridge = await startBridge({
    MQTT_URL: link.url,
    MQTT_PROTOCOL: protocol,
    MQTT_KEEPALIVE_S: 5,
    // Filters of earlier checks do not count towards a broker's limit for long.
    STREAM_LINGER_MS: 5000,
    SHUTDOWN_MS: 3000,
    ...settings,
  })
  await untilReady(bridge)
  return {
    ...bridge,
    link,
    async leave() {
      // It tells the broker that it leaves, so that nothing of this check stays behind; not for ever, though.
      await Promise.race([bridge.end('SIGTERM'), delay(5000)])
      await bridge.end('SIGKILL')
      await link.end()
    },
  }
}

/** Resolves once the bridge has reached its broker, after ten seconds at most. */
export async function untilReady({ url }: Pick<BridgeProcess, 'url'>): Promise<void> {
  await eventually(() => request(`${url}/readyz`), 10_000).catch(() => {})
}

export interface Message {
  topic: string
  payload?: unknown
  encoding?: string
  qos?: 0 | 1 | 2
  retain?: boolean
  properties?: Record<string, unknown>
}

export interface Session extends StreamReader {
  about: { id: string; present: boolean; expiry?: number; unacknowledgedLimit: number }
}

export interface GroundOptions {
  protocol: Protocol
  broker: BrokerProcess
  /** The bridge that checks share. */
  bridge: () => Promise<BridgeProcess>
  isEmbedded: boolean
  /** Starts another broker of this kind that lets only this account in; undefined where it knows no accounts. */
  startWithAccount: ((account: Account) => Promise<BrokerProcess>) | undefined
}

export type Ground = ReturnType<typeof createGround>

/** What a check stands on: its own topics, bridges, clients and readers, which all end with `end`. */
export function createGround({ protocol, broker, bridge, isEmbedded, startWithAccount }: GroundOptions) {
  const endings: (() => unknown)[] = []
  const links: { of: string; link: Link }[] = []
  let over = false
  const root = `suite-${randomBytes(4).toString('hex')}`
  const version = protocol === '5' ? 5 : 4

  /** Ends it with the check; at once where the check ran out of time while it was being started. */
  async function endWith(ending: () => Promise<void>): Promise<void> {
    if (!over) return void endings.push(ending)
    await ending()
    throw new Wrong('the check is over')
  }

  async function bridgeOn(brokerPort: number, settings: Record<string, string | number> = {}): Promise<Bridge> {
    const bridge = await startLinkedBridge(protocol, brokerPort, settings)
    links.push({ of: 'a bridge of its own', link: bridge.link })
    await endWith(() => bridge.leave())
    return bridge
  }

  /** A client beside the bridge. */
  async function client(options: IClientOptions = {}): Promise<MqttClient> {
    const link = await startLink(broker.port)
    links.push({ of: 'a client beside the bridges', link })
    endings.push(() => link.end())
    const made = await connectAsync(
      link.url,
      { protocolVersion: version, reconnectPeriod: 0, connectTimeout: 10_000, ...options },
      false,
    )
    made.on('error', () => {})
    endings.push(() => made.end(true))
    return made
  }

  /** A subscriber beside the bridge. */
  async function observe(filter: string, qos: 0 | 1 | 2 = 1) {
    const observer = await client()
    const packets: IPublishPacket[] = []
    observer.on('message', (_topic, _payload, packet) => packets.push(packet))
    await within(observer.subscribeAsync(filter, { qos }), 'a subscriber beside the bridge got no SUBACK')
    return {
      packets,
      payloads: () => packets.map(({ payload }) => payload.toString()),
      async count(count: number, ms = PATIENCE_MS) {
        const limit = Date.now() + ms
        while (packets.length < count && Date.now() < limit) await delay(20)
        return packets.length >= count
      },
    }
  }

  async function stream(
    { url }: Pick<BridgeProcess, 'url'>,
    topics: string | string[],
    query: Record<string, string> = {},
    lastEventId?: string,
  ): Promise<StreamReader> {
    // Some brokers refuse retained messages of wildcards; that is told by checks of its own.
    const parameters = new URLSearchParams(query['session'] === undefined ? { retained: 'false', ...query } : query)
    for (const topic of [topics].flat()) parameters.append('topic', topic)
    // URLSearchParams writes a space as `+`, which is a literal plus here.
    const reader = await openStream(
      `${url}/subscribe?${parameters.toString().replaceAll('+', '%20')}`,
      lastEventId === undefined ? {} : { 'last-event-id': lastEventId },
    )
    endings.push(() => reader.close())
    return reader
  }

  async function session(
    bridge: Pick<BridgeProcess, 'url'>,
    { topic, name = 'reader', ack = 'explicit', lastEventId }: SessionRequest,
  ): Promise<Session> {
    const reader = await stream(bridge, topic, { session: name, ack }, lastEventId)
    const isAbout = ({ event }: StreamEvent) => event === 'session'
    if (!(await reader.until(() => reader.events.some(isAbout)))) throw new Wrong('a session began without its event')
    return Object.assign(reader, { about: reader.events.find(isAbout)!.data as Session['about'] })
  }

  async function acknowledge(
    bridge: Pick<BridgeProcess, 'url'>,
    { about }: Pick<Session, 'about'>,
    event: StreamEvent,
  ): Promise<void> {
    await post(`${bridge.url}/sessions/${about.id}/ack`, { id: event.id })
  }

  async function end(): Promise<void> {
    over = true
    for (const ending of endings.reverse()) {
      try {
        await ending()
      } catch {
        // What ends the others matters more.
      }
    }
  }

  return {
    protocol,
    broker,
    isEmbedded,
    startWithAccount:
      startWithAccount &&
      (async (account: Account) => {
        const started = await startWithAccount(account)
        await endWith(() => started.end())
        return started
      }),
    /** A topic of this check alone. */
    topic: (name = 'a') => `${root}/${name}`,
    /** A bridge that nothing happens to: the embedding one where the broker is embedded. */
    bridge,
    /** A bridge of this check's own, to kill or to cut off. */
    ownBridge: (settings?: Record<string, string | number>) => bridgeOn(broker.port, settings),
    bridgeOn,
    client,
    observe,
    stream,
    session,
    acknowledge,
    links,
    end,
  }
}

export interface SessionRequest {
  topic: string | string[]
  name?: string
  ack?: 'auto' | 'explicit'
  lastEventId?: string | undefined
}

export interface Published {
  status: number
  reasonCode: number
  matchedSubscribers: boolean | null
}

/** @throws Refused where the answer is a problem */
export async function publish({ url }: Pick<BridgeProcess, 'url'>, message: Message): Promise<Published> {
  const { status, text } = await post(`${url}/publish`, message)
  return { ...(JSON.parse(text) as Published), status }
}

/** Publishes them in order, by one request. @throws Refused for the first that failed */
export async function publishAll({ url }: Pick<BridgeProcess, 'url'>, messages: Message[]): Promise<void> {
  const { text } = await post(`${url}/publish/batch`, messages)
  const results = JSON.parse(text) as { index: number; problem?: { status: number } }[]
  if (results.length !== messages.length) throw new Wrong(`${results.length} results of ${messages.length} messages`)
  for (const { problem } of results) {
    if (problem !== undefined) throw refusal(problem.status, JSON.stringify(problem))
  }
}

export async function post(
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; text: string; headers: Headers }> {
  const raw = Buffer.isBuffer(body) || typeof body === 'string'
  return request(url, {
    method: 'POST',
    headers: { 'content-type': raw ? 'application/octet-stream' : 'application/json', ...headers },
    body: raw ? (body as string) : JSON.stringify(body),
  })
}

/** @throws Refused where the answer is an error, Wrong where there is none in time */
export async function request(
  url: string,
  options: RequestInit = {},
): Promise<{ status: number; text: string; headers: Headers }> {
  let response: Response
  let text: string
  try {
    response = await fetch(url, { ...options, signal: AbortSignal.timeout(ANSWER_MS) })
    text = await response.text()
  } catch (error) {
    const { method = 'GET' } = options
    const cause = error instanceof Error ? `${error.message} ${String(error.cause ?? '')}` : String(error)
    throw new Wrong(`${method} ${new URL(url).pathname} was not answered: ${cause}`)
  }
  if (!response.ok) throw refusal(response.status, text)
  return { status: response.status, text, headers: response.headers }
}

/** Whether the bridge says that the broker mixes the order of messages: within three seconds of its first stream. */
export async function saysMixed({ url }: Pick<BridgeProcess, 'url'>): Promise<boolean> {
  async function askOnce(): Promise<void> {
    const { text } = await request(`${url}/readyz?verbose`)
    const { broker } = JSON.parse(text) as { broker?: { learnt?: { order?: string } } }
    if (broker?.learnt?.order !== 'mixed') throw new Wrong('it does not say so')
  }
  return eventually(askOnce, 4000).then(
    () => true,
    () => false,
  )
}

export const inQuery = (topic: string) => encodeURIComponent(topic)

/** What a promise gives; `Limit` where it gives nothing in time, for what is not the bridge's. */
export async function within<T>(promise: Promise<T>, otherwise: string, ms = PATIENCE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Limit(otherwise)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Time in which a copy too many would come. */
export const quiet = () => delay(400)

/** Repeats it until it succeeds or the time is over, which throws its last error. */
export async function eventually<T>(attempt: () => Promise<T>, ms: number): Promise<T> {
  const limit = Date.now() + ms
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (Date.now() > limit) throw error
      await delay(100)
    }
  }
}
