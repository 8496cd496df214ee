import { CausewayError } from '../../errors.ts'
import { type Message, toJsonText, withExpiry } from '../../mqtt/message.ts'
import type { Encoder } from '../../stream/events.ts'
import { chooseFormat, MEDIA_TYPES } from '../../stream/formats/choose.ts'
import { parseAccept, quality } from './accept.ts'

/**
 * The encoder for what a client asks for with `Accept`.
 * @param embedJson whether payloads that are JSON are embedded as JSON
 * @throws CausewayError `not-acceptable`
 */
export function negotiate(accept: string | undefined, embedJson: boolean): Encoder<Message> {
  const ranges = parseAccept(accept)
  const format = chooseFormat((mediaType) => quality(ranges, mediaType))
  if (format === undefined) {
    throw new CausewayError('not-acceptable', `Streams are available as ${MEDIA_TYPES.join(' and ')}`)
  }
  return {
    name: embedJson ? `${format.name}+json` : format.name,
    format,
    messageData: (message) => toJsonText(message, embedJson),
    withExpiry,
  }
}
