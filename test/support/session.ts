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
  /** The stream's first event, `session`. */
  about: StreamEvent
}

/**
 * Opens the stream of a durable session and reads its first event. It closes with the test.
 * @throws the response, when it is no stream
 */
export async function openSession(bridge: Pick<Bridge, 'url'>, request: SessionRequest = {}): Promise<SessionReader> {
  const stream = await trySession(bridge, request)
  if (stream.status !== 200) {
    await stream.ended
    throw new Error(`${stream.status} ${stream.text()}`)
  }
  return Object.assign(stream, { about: await stream.next() })
}

/** Asks for the stream of a durable session, and returns the response whatever its status. */
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

/** Acknowledges everything up to an event. */
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

/** Publishes the numbers from `from` to `to - 1`, one after the other. */
export async function count(bridge: Bridge, from: number, to: number, topic = 'a'): Promise<void> {
  for (let number = from; number < to; number += 1) await publish(bridge, { topic, payload: `${number}` })
}

/**
 * The events in short: a message is its payload, with `!` before it when it is marked as redelivered; any other event
 * is its name.
 */
export function told(events: StreamEvent[]): string[] {
  return events.map(({ event, data }) =>
    event === 'message' ? `${data.redelivered ? '!' : ''}${data.payload}` : event,
  )
}

/** What `told` returns for the numbers from `from` to `to - 1`. */
export const numbers = (from: number, to: number, mark = '') =>
  Array.from({ length: to - from }, (_, index) => `${mark}${from + index}`)
