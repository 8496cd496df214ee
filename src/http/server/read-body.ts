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
    const bytes = Number(request.headers['content-length'])
    const refusal = check(request) ?? refusalByHead(request, bytesMax, bytes)
    if (refusal !== undefined) return done(refusal)
    const source = payload as Source
    source[READING] = new BodyReading(request, bytes, bytesMax, parse, done)
    // The listeners stay, because to remove them cost 1 % of a publish. They stay as long as the request, which an idle
    // connection keeps; a `BodyReading` that is finished keeps neither the body nor whoever waited for it.
    source.on('data', onData)
    source.on('end', onEnd)
    source.on('error', onError)
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

/** Why a body of so many bytes is refused by what its headers say. */
export function refusalByHead(
  { headers }: FastifyRequest,
  bytesMax: number,
  bytes = Number(headers['content-length']),
): CausewayError | undefined {
  if (bytes > bytesMax) return tooLarge()
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

const READING = Symbol('reading')

/** A stream whose body is being read. */
interface Source extends Readable {
  [READING]: BodyReading
}

/** A body that is being read. One object for each request: closures in its place cost 1 % of a publish. */
class BodyReading {
  #request: FastifyRequest | undefined
  readonly #bytesMax: number
  readonly #parse: Parse
  readonly #expected: number
  /** A body that is one piece. It is handed on in this turn of the event loop, so it needs no place in the account. */
  #whole: Buffer | undefined
  #held: Held | undefined
  #buffer: GrowingBuffer | undefined
  #pieces: SmallPieces | undefined
  /** Undefined once it was called. */
  #done: Done | undefined

  /** @param expected how many bytes Content-Length says; NaN without it */
  constructor(request: FastifyRequest, expected: number, bytesMax: number, parse: Parse, done: Done) {
    this.#request = request
    this.#expected = expected
    this.#bytesMax = bytesMax
    this.#parse = parse
    this.#done = done
  }

  take(piece: Buffer): void {
    if (this.#done === undefined) return
    if (this.#buffer === undefined) {
      if (piece.length === this.#expected) {
        this.#whole = piece
        return
      }
      this.#pieces = new SmallPieces()
      this.#held = this.#request!.share.hold('bodies')
      this.#buffer = new GrowingBuffer(this.#held, this.#expected > 0 ? this.#expected : this.#bytesMax)
    }
    if (this.#buffer.length + piece.length > this.#bytesMax) this.fail(tooLarge())
    else if (this.#pieces!.add(piece)) this.fail(tooManyPieces())
    else if (!this.#buffer.append(piece)) this.fail(noRoomForBody())
  }

  end(): void {
    if (this.#done === undefined) return
    const isView = this.#whole !== undefined
    const body = this.#whole ?? this.#buffer?.take() ?? Buffer.alloc(0)
    if (this.#expected >= 0 && body.length !== this.#expected) {
      return this.fail(new CausewayError('invalid-request', 'The body is not as long as Content-Length says'))
    }
    const request = this.#request!
    const done = this.#finish()
    try {
      this.#parse(request, body, done, isView)
    } catch (cause) {
      done(cause as Error)
    }
  }

  /** Behind an error, what still comes is thrown away, so that the client is not left waiting while it sends. */
  fail(error: Error): void {
    if (this.#done !== undefined) this.#finish()(error)
  }

  #finish(): Done {
    const done = this.#done!
    this.#buffer?.clear()
    this.#held?.release()
    this.#request = this.#done = this.#whole = this.#buffer = this.#held = this.#pieces = undefined
    return done
  }
}

function onData(this: Source, piece: Buffer): void {
  this[READING].take(piece)
}

function onEnd(this: Source): void {
  this[READING].end()
}

function onError(this: Source, error: Error): void {
  this[READING].fail(
    error instanceof CausewayError
      ? error
      : new CausewayError('invalid-request', 'The body ended before it was complete', { cause: error }),
  )
}
