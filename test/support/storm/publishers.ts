import { setTimeout as delay } from 'node:timers/promises'
import type { MqttClient } from 'mqtt'
import { connectOnce } from '../mqtt-client.ts'
import type { Ledger, Outcome, StormTopic } from './ledger.ts'
import type { Random } from './random.ts'

export interface PublisherOptions {
  ledger: Ledger
  topic: StormTopic
  random: Random
  /** Of the bridge. */
  url: string
  /** Of the broker, past every fault but its own. */
  brokerUrl: string
  /** Longest pause between two messages. */
  pauseMs: number
  isOver(): boolean
}

const RETRY_MS = 20
const FENCE = 'storm-fence'

/** Publishes to one topic, one after the other, until it is over. */
export async function publishOn(options: PublisherOptions): Promise<void> {
  if (options.topic.by === 'http') await publishOverHttp(options)
  else await publishOverMqtt(options)
}

/** One publication by way of the bridge. */
export async function publishOnce(
  url: string,
  ledger: Ledger,
  { name, qos, retain }: StormTopic,
  padding = 0,
): Promise<Outcome> {
  const { sequence, settle } = ledger.begin(name)
  const outcome = await outcomeOf(
    `${url}/publish?topic=${name}&qos=${qos}&retain=${retain}`,
    `${sequence}`.padEnd(padding),
  )
  settle(outcome)
  return outcome
}

async function outcomeOf(url: string, body: string): Promise<Outcome> {
  try {
    const response = await fetch(url, { method: 'POST', body })
    const { outcome } = (await response.json()) as { outcome?: string }
    if (response.status === 200) return 'acknowledged'
    return response.status === 202 || outcome === 'unknown' ? 'unknown' : 'refused'
  } catch {
    return 'unknown'
  }
}

async function publishOverHttp({ ledger, topic, random, url, pauseMs, isOver }: PublisherOptions): Promise<void> {
  while (!isOver()) {
    const outcome = await publishOnce(url, ledger, topic)
    await delay(outcome === 'acknowledged' ? random.integer(0, pauseMs) : RETRY_MS)
  }
}

async function publishOverMqtt({ ledger, topic, random, brokerUrl, pauseMs, isOver }: PublisherOptions): Promise<void> {
  while (!isOver()) {
    const client = await connectOnce(brokerUrl, { connectTimeout: 2000 }).catch(() => undefined)
    if (client === undefined) {
      await delay(RETRY_MS)
      continue
    }
    client.on('error', () => {})
    const closed = new Promise<'unknown'>((resolve) => client.once('close', () => resolve('unknown')))
    while (!isOver() && client.connected) {
      const batch = Array.from({ length: topic.qos === 0 ? random.integer(1, 5) : 1 }, () => ledger.begin(topic.name))
      const outcome = await Promise.race([
        closed,
        acknowledged(
          client,
          topic,
          batch.map(({ sequence }) => sequence),
        ),
      ])
      for (const { settle } of batch) settle(outcome)
      await delay(random.integer(0, pauseMs))
    }
    client.end(true)
  }
}

/** QoS 0 has no acknowledgement: one for a message behind it on the same connection says that it arrived. */
async function acknowledged(
  client: MqttClient,
  { name, qos, retain }: StormTopic,
  sequences: number[],
): Promise<Outcome> {
  try {
    const written = sequences.map((sequence) => client.publishAsync(name, `${sequence}`, { qos, retain }))
    if (qos === 0) written.push(client.publishAsync(FENCE, '', { qos: 1 }))
    await Promise.all(written)
    return 'acknowledged'
  } catch {
    return 'unknown'
  }
}
