import type { Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { CausewayError } from '../../errors.ts'
import type { Held } from '../../memory/account.ts'
import { GrowingBuffer } from '../../memory/growing-buffer.ts'
import { SmallPieces, tooManyPieces } from './small-pieces.ts'

type Done = (error: Error | null, body?: unknown) => void
/** @param isView whether the body is a part of what the socket has read, so that whoever keeps it makes a copy */
export type Parse = (request: FastifyRequest, body: Buffer, done: Done, isView: boolean) => void
type BodyParser = (request: FastifyRequest, payload: unknown, done: Done) => void

/**
 * Makes a content type parser that reads the body itself. Fastify's own keeps every piece that arrives as an object,
 * and counts for one request only. Here the pieces are copied into one buffer, which is held for the caller.
 *
 * @param parse gets the whole body. What it throws is the answer
 * @param check an error is the answer, before anything of the body is read
 * @param bytesMaxOf most bytes of the body of a request, where that is not the limit of the server
 */
export function wholeBody(
  app: FastifyInstance,
  parse: Parse,
  check: (request: FastifyRequest) => CausewayError | undefined = () => undefined,
  bytesMaxOf: (request: FastifyRequest) => number = () => app.initialConfig.bodyLimit!,
): BodyParser {
  return (request, payload, done) => {
    const bytesMax = bytesMaxOf(request)
    const refusal = check(request) ?? refusalByHead(request, bytesMax)
    if (refusal !== undefined) return done(refusal)
    readBody(request, payload as Readable, bytesMax, (error, body, isView = false) => {
      if (error !== undefined) return done(error)
      try {
        parse(request, body!, done, isView)
      } catch (cause) {
        done(cause as Error)
      }
    })
  }
}

/**
 * Makes a content type parser that hands the body on unread, as a `Readable`.
 *
 * @param bytesMax undefined for bodies of any length
 */
export function unreadBody(bytesMax?: number): BodyParser {
  return (request, payload, done) => {
    const refusal = refusalByHead(request, bytesMax ?? Infinity)
    if (refusal === undefined) done(null, payload)
    else done(refusal)
  }
}

/** Why a body is refused by what its headers say. */
export function refusalByHead({ headers }: FastifyRequest, bytesMax: number): CausewayError | undefined {
  if (Number(headers['content-length']) > bytesMax) return tooLarge()
  const encoding = headers['content-encoding']
  if (encoding === undefined || encoding.trim().toLowerCase() === 'identity') return undefined
  return new CausewayError('unsupported-media-type', 'Bodies are not decoded; send the body without Content-Encoding', {
    acceptEncoding: 'identity',
  })
}

function tooLarge(): CausewayError {
  return new CausewayError('payload-too-large', 'The body is larger than CAUSEWAY_BODY_LIMIT_BYTES')
}

export function noRoomForBody(): CausewayError {
  return new CausewayError('overloaded', 'Too many bodies are arriving; nothing of this one was sent', {
    outcome: 'not-sent',
    retryAfter: 1,
  })
}

function readBody(
  { headers, share }: FastifyRequest,
  payload: Readable,
  bytesMax: number,
  done: (error: Error | undefined, body?: Buffer, isView?: boolean) => void,
): void {
  const expected = Number(headers['content-length'])
  /** A body that is one piece. It is handed on in this turn of the event loop, so it needs no place in the account. */
  let whole: Buffer | undefined
  let held: Held | undefined
  let buffer: GrowingBuffer | undefined
  let pieces: SmallPieces | undefined
  /** Undefined once it was called. */
  let answer: typeof done | undefined = done

  // The listeners stay, because to remove them cost 1 % of a publish. They stay as long as the request, which an idle
  // connection keeps, so they must not keep the body, nor whoever waited for it.
  payload.on('data', (piece: Buffer) => {
    if (answer === undefined) return
    if (buffer === undefined) {
      if (piece.length === expected) {
        whole = piece
        return
      }
      pieces = new SmallPieces()
      held = share.hold('bodies')
      buffer = new GrowingBuffer(held, expected > 0 ? expected : bytesMax)
    }
    if (buffer.length + piece.length > bytesMax) finish(tooLarge())
    else if (pieces!.add(piece)) finish(tooManyPieces())
    else if (!buffer.append(piece)) finish(noRoomForBody())
  })
  payload.on('end', () => {
    if (answer === undefined) return
    const body = whole ?? buffer?.take() ?? Buffer.alloc(0)
    if (expected >= 0 && body.length !== expected) {
      return finish(new CausewayError('invalid-request', 'The body is not as long as Content-Length says'))
    }
    finish(undefined, body)
  })
  payload.on('error', (error) => {
    if (answer === undefined) return
    finish(
      error instanceof CausewayError
        ? error
        : new CausewayError('invalid-request', 'The body ended before it was complete', { cause: error }),
    )
  })

  /** Behind an error, what still comes is thrown away, so that the client is not left waiting while it sends. */
  function finish(error: Error | undefined, body?: Buffer): void {
    const isView = body !== undefined && body === whole
    const handOver = answer!
    buffer?.clear()
    held?.release()
    answer = whole = buffer = held = pieces = undefined
    handOver(error, body, isView)
  }
}
