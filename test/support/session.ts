import type { Bridge } from './bridge.ts'
import { publish } from './http.ts'
import { openStream, type StreamEvent, type StreamReader } from './stream.ts'

export interface SessionRequest {
  name?: string
  topics?: string[]
  ack?: 'auto' | 'explicit'
  retained?: boolean
  encoding?: 'json'
  accept?: string
  lastEventId?: string | undefined
}

export interface SessionReader extends StreamReader {
  /** The first event. */
  about: StreamEvent
}

/** The stream of a durable session, behind its first event; it closes with the test. Answers that are no streams throw. */
export async function openSession(bridge: Pick<Bridge, 'url'>, request: SessionRequest = {}): Promise<SessionReader> {
  const stream = await trySession(bridge, request)
  if (stream.status !== 200) {
    await stream.ended
    throw new Error(`${stream.status} ${stream.text()}`)
  }
  return Object.assign(stream, { about: await stream.next() })
}

/** The same, whatever the answer. */
export function trySession(
  bridge: Pick<Bridge, 'url'>,
  { name = 'reader', topics = ['a'], lastEventId, accept, ...rest }: SessionRequest = {},
): Promise<StreamReader> {
  const query = new URLSearchParams({ session: name })
  for (const topic of topics) query.append('topic', topic)
  for (const [key, value] of Object.entries(rest)) query.set(key, String(value))
  return openStream(`${bridge.url}/subscribe?${query}`, {
    ...(accept && { accept }),
    ...(lastEventId && { 'last-event-id': lastEventId }),
  })
}

export async function acknowledge(
  bridge: Pick<Bridge, 'url'>,
  { about }: Pick<SessionReader, 'about'>,
  { id }: Pick<StreamEvent, 'id'>,
): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${bridge.url}/sessions/${about.data.id}/ack`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ id }),
  })
  return { status: response.status, body: await response.json() }
}

/** Publishes numbers, the first one included and the last one not. */
export async function count(bridge: Bridge, from: number, to: number, topic = 'a'): Promise<void> {
  for (let number = from; number < to; number += 1) await publish(bridge, { topic, payload: `${number}` })
}

/** What came, short: a message's payload, `!` before it where it is marked as redelivered; the event's name for others. */
export function told(events: StreamEvent[]): string[] {
  return events.map(({ event, data }) =>
    event === 'message' ? `${data.redelivered ? '!' : ''}${data.payload}` : event,
  )
}

export const numbers = (from: number, to: number, mark = '') =>
  Array.from({ length: to - from }, (_, index) => `${mark}${from + index}`)
