import { setTimeout as delay } from 'node:timers/promises'
import { connectOnce } from '../mqtt-client.ts'
import type { Random } from '../storm/random.ts'

export interface PublisherOptions {
  topic: string
  by: 'http' | 'mqtt'
  random: Random
  /** Of a bridge, whichever is up. */
  url(): string
  brokerUrl: string
  isOver(): boolean
}

const PAUSE_MS = 15
const RETRY_MS = 20

/** Publishes growing numbers at QoS 1, one after the other. Returns those that were acknowledged. */
export async function publishNumbers(options: PublisherOptions): Promise<Set<number>> {
  const acknowledged = new Set<number>()
  let sequence = 0
  const { random, isOver } = options
  const publish = options.by === 'http' ? overHttp(options) : overMqtt(options)
  while (!isOver()) {
    sequence += 1
    const isDone = await publish(sequence).catch(() => false)
    if (isDone) acknowledged.add(sequence)
    await delay(isDone ? random.integer(0, PAUSE_MS) : RETRY_MS)
  }
  return acknowledged
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
    const isDone = await Promise.race([
      closed,
      client.publishAsync(topic, String(sequence), { qos: 1 }).then(() => true),
    ])
    client.end(true)
    return isDone
  }
}
