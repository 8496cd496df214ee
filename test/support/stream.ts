import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { createParser } from 'eventsource-parser'
import { onTestFinished } from 'vitest'

export interface StreamEvent {
  event: string
  id: string | undefined
  // oxlint-disable-next-line no-explicit-any -- tests look into whatever comes
  data: any
}

export interface StreamReader {
  status: number
  headers: IncomingMessage['headers']
  /** The `status` event that every stream without a session begins with. */
  opening: Promise<StreamEvent>
  /** All events so far, without the opening one. */
  events: StreamEvent[]
  /** The text so far. */
  text(): string
  /** The next event after those already taken. Rejects when the stream ends first. */
  next(): Promise<StreamEvent>
  /** The next `count` events. */
  take(count: number): Promise<StreamEvent[]>
  /** Stops reading the socket, until `resume`. */
  pause(): void
  resume(): void
  /** Destroys the socket, as a client that disappears does. */
  close(): void
  /** Resolves when the stream has ended. */
  ended: Promise<void>
}

/**
 * Opens a stream of server-sent events or NDJSON on a socket of its own. It closes with the test. A response that is no
 * stream is in `text()`.
 */
export async function openStream(url: string, headers: Record<string, string> = {}): Promise<StreamReader> {
  const request = get(url, { headers, agent: false })
  onTestFinished(() => void request.destroy())
  request.on('error', () => {})
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  const events: StreamEvent[] = []
  const waiting: (() => void)[] = []
  const wake = () => waiting.splice(0).forEach((resolve) => resolve())
  let taken = 0
  let over = false
  let text = ''
  let isFirst = true
  let opened: ((event: StreamEvent) => void) | undefined
  let notOpened: ((error: Error) => void) | undefined
  const opening = new Promise<StreamEvent>((resolve, reject) => {
    opened = resolve
    notOpened = reject
  })
  opening.catch(() => {})
  function arrived(event: StreamEvent): void {
    if (isFirst && event.event === 'status' && event.data.broker !== undefined) opened!(event)
    else if (event.event !== 'heartbeat') events.push(event)
    isFirst = false
    wake()
  }
  const isLines = response.headers['content-type']?.startsWith('application/x-ndjson')
  const feed = isLines
    ? lineFeed(arrived)
    : createParser({ onEvent: ({ event = 'message', id, data }) => arrived({ event, id, data: JSON.parse(data) }) })
        .feed
  response.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
    feed(chunk)
  })
  const ended = new Promise<void>((resolve) => {
    response.once('close', () => {
      over = true
      wake()
      resolve()
      notOpened!(new Error(`the stream ended without an opening event:\n${text.slice(-500)}`))
    })
    response.on('error', () => {})
  })
  async function next(): Promise<StreamEvent> {
    while (taken >= events.length) {
      if (over) throw new Error(`the stream ended after ${events.length} events:\n${text.slice(-500)}`)
      await new Promise<void>((resolve) => waiting.push(resolve))
    }
    taken += 1
    return events[taken - 1]!
  }
  return {
    status: response.statusCode!,
    opening,
    headers: response.headers,
    events,
    ended,
    next,
    text: () => text,
    async take(count) {
      const some: StreamEvent[] = []
      while (some.length < count) some.push(await next())
      return some
    },
    pause: () => void response.pause(),
    resume: () => void response.resume(),
    close: () => void request.destroy(),
  }
}

function lineFeed(arrived: (event: StreamEvent) => void): (chunk: string) => void {
  let rest = ''
  return (chunk) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()!
    for (const line of lines) arrived({ id: undefined, ...(JSON.parse(line) as Omit<StreamEvent, 'id'>) })
  }
}
