import { setTimeout as delay } from 'node:timers/promises'
import type { MqttClient } from 'mqtt'
import { connectOnce } from '../mqtt-client.ts'
import type { Ledger, Outcome, StormTopic } from './ledger.ts'
import type { Random } from './random.ts'

export interface PublisherOptions {
  ledger: Ledger
  topic: StormTopic
  random: Random
  /** The bridge's URL. */
  url: string
  /** The broker's URL without the proxy. */
  brokerUrl: string
  /** Longest pause between two messages. */
  pauseMs: number
  isOver(): boolean
}

const RETRY_MS = 20
const FENCE_TOPIC = 'storm-fence'

/** Publishes to one topic, one message after the other, until `isOver`. */
export async function publishOn(options: PublisherOptions): Promise<void> {
  if (options.topic.by === 'http') await publishOverHttp(options)
  else await publishOverMqtt(options)
}

/** Publishes one message through the bridge. `padding` is the length of its payload. */
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

/**
 * Publishes these messages and waits until the broker has them. QoS 0 has no acknowledgement, so a QoS 1 message
 * follows on the same connection: when that is acknowledged, the broker has received those before it.
 */
async function acknowledged(
  client: MqttClient,
  { name, qos, retain }: StormTopic,
  sequences: number[],
): Promise<Outcome> {
  try {
    const written = sequences.map((sequence) => client.publishAsync(name, `${sequence}`, { qos, retain }))
    if (qos === 0) written.push(client.publishAsync(FENCE_TOPIC, '', { qos: 1 }))
    await Promise.all(written)
    return 'acknowledged'
  } catch {
    return 'unknown'
  }
}
