import { get, type IncomingMessage } from 'node:http'
import { createParser } from 'eventsource-parser'
import { Refused, Wrong } from './outcome.ts'

const ANSWER_MS = 20_000
/** How long to wait for what should come before it counts as lost. */
export const PATIENCE_MS = 8_000

export interface StreamEvent {
  event: string
  id: string | undefined
  // oxlint-disable-next-line no-explicit-any -- checks look into whatever came
  data: any
}

export interface StreamReader {
  events: StreamEvent[]
  /** Those with a message. */
  messages(): StreamEvent[]
  payloads(): string[]
  /** The reasons of the gaps so far. */
  gaps(): string[]
  /** Whether it came true in time; looked at with each event and at the end of the stream. */
  until(true_: () => boolean, ms?: number): Promise<boolean>
  /** So many messages, or what there is after the wait. */
  count(messages: number, ms?: number): Promise<boolean>
  ended: Promise<void>
  isEnded(): boolean
  close(): void
}

/** @throws Refused where the answer is a problem, Wrong where there is none in time */
export async function openStream(url: string, headers: Record<string, string> = {}): Promise<StreamReader> {
  const request = get(url, { headers, agent: false })
  request.on('error', () => {})
  const timer = setTimeout(() => request.destroy(), ANSWER_MS)
  const answered = await Promise.race([
    new Promise<IncomingMessage>((resolve) => request.once('response', resolve)),
    new Promise<undefined>((resolve) => request.once('close', () => resolve(undefined))),
  ])
  clearTimeout(timer)
  if (answered === undefined) throw new Wrong(`a stream was not answered within ${ANSWER_MS / 1000} s`)
  const response = answered
  response.setEncoding('utf8')
  if (response.statusCode !== 200) {
    let text = ''
    for await (const chunk of response) text += chunk as string
    throw refusal(response.statusCode!, text)
  }

  const events: StreamEvent[] = []
  const looking = new Set<() => void>()
  let over = false
  const { feed } = createParser({
    onEvent({ event = 'message', id, data }) {
      events.push({ event, id, data: JSON.parse(data) })
      for (const look of looking) look()
    },
  })
  response.on('data', feed)
  response.on('error', () => {})
  const ended = new Promise<void>((resolve) => {
    response.once('close', () => {
      over = true
      for (const look of looking) look()
      resolve()
    })
  })

  function until(true_: () => boolean, ms = PATIENCE_MS): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (result: boolean) => {
        clearTimeout(limit)
        looking.delete(look)
        resolve(result)
      }
      const limit = setTimeout(() => end(true_()), ms)
      const look = () => {
        if (true_()) end(true)
        else if (over) end(false)
      }
      looking.add(look)
      look()
    })
  }
  const messages = () => events.filter(({ event }) => event === 'message')
  return {
    events,
    messages,
    payloads: () => messages().map(({ data }) => String(data.payload)),
    gaps: () => events.filter(({ event }) => event === 'gap').map(({ data }) => String(data.reason)),
    until,
    count: (count, ms) => until(() => messages().length >= count, ms),
    ended,
    isEnded: () => over,
    close: () => void request.destroy(),
  }
}

/** An answer that is an error. */
export function refusal(status: number, text: string): Refused {
  try {
    const { code, detail, title } = JSON.parse(text) as { code?: string; detail?: string; title?: string }
    return new Refused(status, code ?? 'no-code', detail ?? title ?? text)
  } catch {
    return new Refused(status, 'no-problem', text.slice(0, 200))
  }
}
