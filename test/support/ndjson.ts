import { once } from 'node:events'
import { type ClientRequest, type IncomingMessage, request as open } from 'node:http'
import { createInterface } from 'node:readline'
import { onTestFinished } from 'vitest'
import type { Answer } from './http.ts'

export interface Conversation {
  request: ClientRequest
  send(text: string): void
  end(): void
  /** The next result after those already taken; undefined when the response has ended. */
  // oxlint-disable-next-line no-explicit-any -- tests look into whatever comes
  next(): Promise<any>
  /** All further results, until the response ends. The line with `end` is left out. */
  // oxlint-disable-next-line no-explicit-any -- as above
  rest(): Promise<any[]>
}

/**
 * An NDJSON batch whose lines are sent while its results come back, on a socket of its own. It closes with the test.
 */
export function openBatch(url: string, headers: Record<string, string> = {}): Conversation {
  const request = open(`${url}/publish/batch`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson', ...headers },
    agent: false,
  })
  request.flushHeaders()
  request.on('error', () => {})
  onTestFinished(() => void request.destroy())
  const lines = once(request, 'response').then(([response]) => {
    const reader = createInterface({ input: (response as IncomingMessage).on('error', () => {}) })
    return reader[Symbol.asyncIterator]()
  })
  lines.catch(() => {})
  async function next() {
    const { value, done } = await (await lines).next()
    return done === true ? undefined : JSON.parse(value)
  }
  return {
    request,
    send: (text) => void request.write(text),
    end: () => void request.end(),
    next,
    async rest() {
      const results = []
      for (let result = await next(); result !== undefined; result = await next()) results.push(result)
      return results.filter(({ end }) => end !== true)
    },
  }
}

/**
 * Publishes a whole batch. The lines of an NDJSON response are parsed; its last one, with the numbers of messages, is
 * `end`.
 */
export async function batch(
  url: string,
  type: 'json' | 'x-ndjson',
  body: unknown,
): Promise<Answer & { end?: { end: true; read: number; published: number } }> {
  const text =
    type === 'json' && typeof body !== 'string' && !(body instanceof Uint8Array)
      ? JSON.stringify(body)
      : (body as string)
  const response = await fetch(`${url}/publish/batch`, {
    method: 'POST',
    headers: { 'content-type': `application/${type}` },
    body: text,
  })
  const answer = await response.text()
  const isLines = /ndjson/.test(response.headers.get('content-type') ?? '')
  const parsed = isLines
    ? answer
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line))
    : JSON.parse(answer)
  const answered = { status: response.status, headers: response.headers, body: parsed }
  return isLines ? { ...answered, end: parsed.pop() } : answered
}
