import { CausewayError } from '../../errors.ts'
import { type Message, toJsonText } from '../../mqtt/message.ts'
import { eventStream } from '../../stream/formats/event-stream.ts'
import type { Format } from '../../stream/formats/format.ts'
import type { Encoding } from '../../stream/shared/shared-streams.ts'
import { ndjson } from '../../stream/formats/ndjson.ts'
import { parseAccept, quality } from './accept.ts'

export const STREAM_TYPES = ['text/event-stream', 'application/x-ndjson']

const encodingsOf = (format: Format): { plain: Encoding<Message>; embedded: Encoding<Message> } => ({
  plain: { name: format.name, format, data: (message) => toJsonText(message, false) },
  embedded: { name: `${format.name}+json`, format, data: (message) => toJsonText(message, true) },
})

const SSE = encodingsOf(eventStream)
const NDJSON = encodingsOf(ndjson)

/**
 * The encoding a client asks for with `Accept`; server-sent events where it does not say, or likes both as much.
 * @param embedJson whether payloads that are JSON go in as such
 */
export function negotiate(accept: string | undefined, embedJson: boolean): Encoding<Message> {
  const ranges = parseAccept(accept)
  const [sse, lines] = [quality(ranges, 'text/event-stream'), quality(ranges, 'application/x-ndjson')]
  if (Math.max(sse, lines) === 0) {
    throw new CausewayError('not-acceptable', `Streams are available as ${STREAM_TYPES.join(' and ')}`)
  }
  const encodings = sse >= lines ? SSE : NDJSON
  return embedJson ? encodings.embedded : encodings.plain
}
