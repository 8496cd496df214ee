import { Agent, request } from 'node:http'
import { connectAsync, type MqttClient } from 'mqtt'
import type { Random } from '../support/storm/random.ts'
import type { Ledger, Publication } from './ledger.ts'
import type { Stage } from './stage.ts'

export type Qos = 0 | 1 | 2

export interface Load {
  /** Messages a second. */
  rate: number
  /** Each message has one of these. */
  qos: readonly Qos[]
  /** Bytes of each payload. By default its length follows from its number, so that the broker's log tells it apart. */
  bytes?: number
}

/** QoS 0 has a branch of its own, `chaos/loose`: its streams get a gap in nearly every fault. */
export const SURE = 'chaos/sure/#'
export const LOOSE = 'chaos/loose/#'
const topicOf = (by: string, qos: Qos, letter: string) => `chaos/${qos === 0 ? 'loose' : 'sure'}/${by}/${qos}/${letter}`
/** Several of each kind, so that all publishing connections have some. */
const LETTERS = ['a', 'b', 'c']

const PAYLOAD_BASE_BYTES = 10
const BEHIND_MAX_MS = 250
/** Behind the answer of a 503 that does not say when to come back. */
export const WITHOUT_RETRY_AFTER = ' without Retry-After'
/** Requests without an answer; what is more is not begun. */
const REQUESTS_MAX = 5000

/** Its number, filled up with spaces. */
function payloadOf({ number }: Publication, bytes: number | undefined): string {
  return `${number}`.padEnd(bytes ?? payloadLength(number), ' ')
}

/** Bytes of the payload of this message, where the load does not say otherwise. */
export const payloadLength = (number: number): number => PAYLOAD_BASE_BYTES + number

/** Calls `publish` so many times a second, whatever becomes of the calls, until its result is called. */
function paced(random: Random, { rate, qos }: Load, publish: (qos: Qos, letter: string) => void): () => void {
  if (rate === 0) return () => {}
  let due = performance.now()
  const timer = setInterval(() => {
    // On a machine that cannot keep up, what is late by so much is left out: a burst would be another load.
    due = Math.max(due, performance.now() - BEHIND_MAX_MS)
    while (due <= performance.now()) {
      publish(random.pick(qos), random.pick(LETTERS))
      // Between half and one and a half of the mean distance.
      due += (1000 / rate) * (0.5 + random.next())
    }
  }, 5)
  return () => clearInterval(timer)
}

/** Publishes over HTTP, to these bridges in turns. Returns what stops it. */
export function publishOverHttp(
  stage: Stage,
  {
    urls,
    ledger,
    random,
    load,
    connections = Infinity,
  }: {
    urls: () => readonly string[]
    ledger: Ledger
    random: Random
    load: Load
    connections?: number | undefined
  },
): () => void {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  stage.onEnd(() => agent.destroy())
  let turn = 0
  let waiting = 0
  const stop = paced(random, load, (qos, letter) => {
    if (waiting >= REQUESTS_MAX) return
    const all = urls()
    turn += 1
    waiting += 1
    const publication = ledger.begin('http', qos, topicOf('http', qos, letter))
    post(agent, all[turn % all.length]!, publication, payloadOf(publication, load.bytes), () => {
      waiting -= 1
    })
  })
  stage.onEnd(stop)
  return stop
}

function post(agent: Agent, url: string, publication: Publication, payload: string, onAnswer: () => void): void {
  const { topic, qos } = publication
  function answered(answer: string): void {
    if (publication.answer !== undefined) return
    publication.answeredAt = performance.now()
    publication.answer = answer
    onAnswer()
  }
  const sent = request(`${url}/publish?topic=${topic}&qos=${qos}`, { method: 'POST', agent }, (response) => {
    let body = ''
    response.setEncoding('utf8').on('data', (text: string) => {
      body += text
    })
    response.on('error', (error: NodeJS.ErrnoException) => answered(error.code ?? error.message))
    response.on('end', () => {
      const lacksRetryAfter = response.statusCode === 503 && response.headers['retry-after'] === undefined
      answered(describeAnswer(response.statusCode!, body) + (lacksRetryAfter ? WITHOUT_RETRY_AFTER : ''))
    })
  })
  sent.on('error', (error: NodeJS.ErrnoException) => answered(error.code ?? error.message))
  sent.end(payload)
}

function describeAnswer(status: number, body: string): string {
  if (status < 300) return `${status}`
  try {
    const { code, outcome } = JSON.parse(body) as { code?: string; outcome?: string }
    return [status, code, outcome].filter((part) => part !== undefined).join(' ')
  } catch {
    return `${status}`
  }
}

/** Publishes straight to the broker. While it is away nothing is begun, and nothing is ever sent again. */
export async function publishOverMqtt(
  stage: Stage,
  {
    url,
    protocolVersion,
    ledger,
    random,
    load,
  }: {
    url: string
    protocolVersion: 4 | 5
    ledger: Ledger
    random: Random
    load: Load
  },
): Promise<() => void> {
  if (load.rate === 0) return () => {}
  const client: MqttClient = await connectAsync(url, { protocolVersion, reconnectPeriod: 100, queueQoSZero: false })
  client.on('error', () => {})
  client.on('close', () => {
    // MQTT.js would send these again without DUP, which no broker could tell from a second message.
    for (const id of Object.keys(client.outgoing)) client.removeOutgoingMessage(Number(id))
  })
  const stop = paced(random, load, (qos, letter) => {
    if (!client.connected) return
    const publication = ledger.begin('mqtt', qos, topicOf('mqtt', qos, letter))
    client.publish(publication.topic, payloadOf(publication, load.bytes), { qos }, (error) => {
      publication.answeredAt = performance.now()
      publication.answer = error ? 'unacknowledged' : qos === 0 ? '202' : '200'
    })
  })
  stage.onEnd(() => {
    stop()
    client.end(true)
  })
  return stop
}
