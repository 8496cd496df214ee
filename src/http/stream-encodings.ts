import { CausewayError } from '../errors.ts'
import { type Message, toJsonText } from '../mqtt/message.ts'
import { eventStream } from '../stream/event-stream.ts'
import type { Format } from '../stream/format.ts'
import type { Encoding } from '../stream/hub.ts'
import { ndjson } from '../stream/ndjson.ts'

export const STREAM_TYPES = ['text/event-stream', 'application/x-ndjson']

const encodingsOf = (format: Format): { plain: Encoding<Message>; embedded: Encoding<Message> } => ({
  plain: { name: format.name, format, data: (message) => toJsonText(message, false) },
  embedded: { name: `${format.name}+json`, format, data: (message) => toJsonText(message, true) },
})

const SSE = encodingsOf(eventStream)
const NDJSON = encodingsOf(ndjson)

/**
 * The encoding a client asks for with `Accept`; server-sent events where it does not say.
 * @param embedJson whether payloads that are JSON go in as such
 */
export function negotiate(accept: string | undefined, embedJson: boolean): Encoding<Message> {
  for (const type of byPreference(accept ?? '*/*')) {
    const encodings = /^(text\/event-stream|text\/\*|\*\/\*)$/.test(type) ? SSE : /^application\/(x-ndjson|\*)$/.test(type) ? NDJSON : undefined
    if (encodings !== undefined) return embedJson ? encodings.embedded : encodings.plain
  }
  throw new CausewayError('not-acceptable', `Streams are available as ${STREAM_TYPES.join(' and ')}`)
}

function byPreference(accept: string): string[] {
  return accept
    .split(',')
    .map((range) => {
      const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
      const quality = parameters.find((parameter) => parameter.startsWith('q='))
      return { type, quality: quality === undefined ? 1 : Number(quality.slice(2)) }
    })
    .filter(({ quality }) => quality > 0)
    .sort((a, b) => b.quality - a.quality)
    .map(({ type }) => type)
}
