import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { Held, MemoryShare } from '../../memory/account.ts'
import { isDisconnected } from '../server/disconnects.ts'

/** Answers above this size are written in pieces of about this size, each when the client has taken the one before. */
export const PIECE_BYTES = 65_536

/**
 * Sends an answer piece by piece, as fast as the client reads. Only what is encoded and not yet read is held for the
 * caller, under `answers`. What the pieces are made from is for the caller of this function to hold.
 *
 * @param pieces asked for the next one only when the client has room. What it throws cuts the answer off
 */
export function sendPieces(
  reply: FastifyReply,
  pieces: Iterable<string | Uint8Array>,
  share: MemoryShare,
): FastifyReply {
  const held = share.hold('answers')
  releaseWithAnswer(held, reply)
  return reply.serializer(asItIs).send(Readable.from(joined(logged(pieces, reply), held), { objectMode: false }))
}

/** Gives back what is held for an answer once that is over, or now if the client left before it began. */
export function releaseWithAnswer(held: Held, reply: FastifyReply): void {
  if (isDisconnected(reply)) held.release()
  else reply.raw.once('close', () => held.release())
}

/** A stream of bytes that are all there already. */
export function inPieces(bytes: Buffer): Readable {
  return Readable.from(slices(bytes), { objectMode: false })
}

export function* slices(bytes: Buffer): Generator<Buffer> {
  for (let start = 0; start < bytes.length; start += PIECE_BYTES) yield bytes.subarray(start, start + PIECE_BYTES)
}

/** Logs what the pieces throw: the answer has begun, so it cannot say why it ends. */
function* logged<Piece>(pieces: Iterable<Piece>, reply: FastifyReply): Generator<Piece> {
  try {
    yield* pieces
  } catch (error) {
    reply.log.error({ err: error }, 'an answer was cut off by an unexpected error')
    throw error
  }
}

/** Joins small pieces and splits large ones. */
function* joined(pieces: Iterable<string | Uint8Array>, held: Held): Generator<Buffer> {
  let waiting: Buffer[] = []
  let length = 0
  function* flush(): Generator<Buffer> {
    const bytes = waiting.length === 1 ? waiting[0]! : Buffer.concat(waiting)
    waiting = []
    length = 0
    held.growAnyway(bytes.length)
    yield* slices(bytes)
    held.shrink(bytes.length)
  }
  for (const piece of pieces) {
    const bytes =
      typeof piece === 'string' ? Buffer.from(piece) : Buffer.from(piece.buffer, piece.byteOffset, piece.length)
    waiting.push(bytes)
    length += bytes.length
    if (length >= PIECE_BYTES) yield* flush()
  }
  if (length > 0) yield* flush()
}

function asItIs<Payload>(payload: Payload): string {
  return payload as string
}
