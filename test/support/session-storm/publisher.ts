import { setTimeout as delay } from 'node:timers/promises'
import { connectOnce } from '../mqtt-client.ts'
import type { Random } from '../storm/random.ts'

export interface PublisherOptions {
  topic: string
  by: 'http' | 'mqtt'
  random: Random
  /** The URL of a bridge that is up. */
  url(): string
  brokerUrl: string
  isOver(): boolean
}

const PAUSE_MS = 15
const RETRY_MS = 20

export interface NumberPublisher {
  /** The numbers that were acknowledged so far. */
  acknowledged: ReadonlySet<number>
  /** Resolves when the last publication has its outcome. */
  ended: Promise<void>
}

/** Publishes 1, 2, 3, … at QoS 1 until `isOver`, and waits for the outcome of each before the next. */
export function startPublisher(options: PublisherOptions): NumberPublisher {
  const acknowledged = new Set<number>()
  const { random, isOver } = options
  const publish = options.by === 'http' ? overHttp(options) : overMqtt(options)
  async function run(): Promise<void> {
    for (let sequence = 1; !isOver(); sequence += 1) {
      const isAcknowledged = await publish(sequence).catch(() => false)
      if (isAcknowledged) acknowledged.add(sequence)
      await delay(isAcknowledged ? random.integer(0, PAUSE_MS) : RETRY_MS)
    }
  }
  return { acknowledged, ended: run() }
}

function overHttp({ topic, url }: PublisherOptions): (sequence: number) => Promise<boolean> {
  return async (sequence) => {
    const response = await fetch(`${url()}/publish?topic=${topic}`, {
      method: 'POST',
      body: String(sequence),
      signal: AbortSignal.timeout(10_000),
    })
    await response.arrayBuffer()
    return response.status === 200
  }
}

function overMqtt({ topic, brokerUrl }: PublisherOptions): (sequence: number) => Promise<boolean> {
  return async (sequence) => {
    const client = await connectOnce(brokerUrl, { connectTimeout: 2000 })
    client.on('error', () => {})
    const closed = new Promise<boolean>((resolve) => client.once('close', () => resolve(false)))
    const isAcknowledged = await Promise.race([
      closed,
      client.publishAsync(topic, String(sequence), { qos: 1 }).then(() => true),
    ])
    client.end(true)
    return isAcknowledged
  }
}
