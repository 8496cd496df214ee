import { once } from 'node:events'
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type IncomingHttpHeaders } from 'node:http2'
import { createParser } from 'eventsource-parser'
import { onTestFinished } from 'vitest'
import type { StreamEvent } from './stream.ts'

/** Opens an HTTP/2 connection. It closes with the test. */
export async function openSession(url: string, ca: string): Promise<ClientHttp2Session> {
  const session = connect(url, { ca, settings: { enablePush: false } })
  onTestFinished(() => session.destroy())
  await once(session, 'connect')
  session.on('error', () => {})
  return session
}

export interface Reply {
  status: number
  headers: IncomingHttpHeaders
  // oxlint-disable-next-line no-explicit-any -- tests look into whatever comes
  body: any
}

/** Sends a request with its whole body, and reads the whole response. */
export async function ask(
  session: ClientHttp2Session,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string | Buffer,
): Promise<Reply> {
  const stream = session.request({ ':method': method, ':path': path, ...headers }, { endStream: body === undefined })
  if (body !== undefined) stream.end(body)
  return replyOn(stream)
}

export async function replyOn(stream: ClientHttp2Stream): Promise<Reply> {
  stream.on('error', () => {})
  const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders]
  let text = ''
  for await (const chunk of stream.setEncoding('utf8')) text += chunk
  const isJson = /[/+]json/.test(headers['content-type'] ?? '')
  return { status: Number(headers[':status']), headers, body: isJson ? JSON.parse(text) : text }
}

export interface EventStream {
  stream: ClientHttp2Stream
  headers: IncomingHttpHeaders
  /** All events so far, without the opening one. */
  events: StreamEvent[]
  /** The next `count` events after those already taken. Rejects when the stream ends first. */
  take(count: number): Promise<StreamEvent[]>
  /** Resolves when the stream has closed. */
  ended: Promise<void>
}

/** Opens `GET /subscribe` as one stream of the connection. */
export async function follow(
  session: ClientHttp2Session,
  query: string,
  headers: Record<string, string> = {},
): Promise<EventStream> {
  const stream = session.request({ ':path': `/subscribe?${query}`, ...headers })
  stream.on('error', () => {})
  const [answer] = (await once(stream, 'response')) as [IncomingHttpHeaders]
  const events: StreamEvent[] = []
  let isOpened = false
  let taken = 0
  const parser = createParser({
    onEvent({ event = 'message', id, data }) {
      // Every stream begins with one that says how it is opened.
      if (isOpened) events.push({ event, id, data: JSON.parse(data) })
      isOpened = true
    },
  })
  stream.setEncoding('utf8').on('data', (chunk: string) => {
    parser.feed(chunk)
    stream.emit('events')
  })
  const ended = new Promise<void>((resolve) => stream.once('close', resolve))
  return {
    stream,
    headers: answer,
    events,
    ended,
    async take(count) {
      while (events.length < taken + count) {
        if (stream.destroyed) throw new Error(`the stream ended after ${events.length} events`)
        await Promise.race([once(stream, 'events'), ended])
      }
      taken += count
      return events.slice(taken - count, taken)
    },
  }
}
