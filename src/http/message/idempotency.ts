import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { CausewayError, type ProblemCode, type ProblemDetails } from '../../errors.ts'
import type { MemoryShare } from '../../memory/account.ts'
import type { Message, MessageProperties } from '../../mqtt/message.ts'

/** An error without its stack, its cause and the topic of the message, which a retry has again. */
export interface KeptError {
  code: ProblemCode
  detail: string
  details: Pick<ProblemDetails, 'mqtt' | 'outcome' | 'retryAfter'>
}

/** How a request with a key ended: with an answer, or with an error as its answer. */
export type Outcome<Answer> = { answer: Answer } | { error: KeptError }

/** The state of a key when a request claims it. */
export type ClaimResult<Answer> =
  | { state: 'new' }
  | { state: 'running' }
  | { state: 'mismatch' }
  | { state: 'done'; outcome: Outcome<Answer> }

/** A key and the name of the caller it belongs to. Two callers may use the same key for different requests. */
export interface StoredKey {
  caller: string
  key: string
  /** Holds the key and the answer for as long as they are kept. */
  share: MemoryShare
}

/** Keeps the keys of requests and their first answers. Each implementation limits their number and their age. */
export interface IdempotencyStore<Answer> {
  /**
   * Reserves a free key for the request with this fingerprint (`new`), or returns what the key is used for.
   * @throws CausewayError `overloaded` where no key can be kept
   */
  claim(key: StoredKey, fingerprint: string): Promise<ClaimResult<Answer>>
  /**
   * Keeps the answer to a claimed key.
   * @param bytes that the answer holds in memory
   */
  keep(key: StoredKey, outcome: Outcome<Answer>, bytes: number): Promise<void>
  /** Gives a claimed key back, because its request had no effect. */
  free(key: StoredKey): Promise<void>
}

export const IDEMPOTENCY_RESULTS = ['new', 'replayed', 'running', 'mismatch'] as const

export type IdempotencyResult = (typeof IDEMPOTENCY_RESULTS)[number]

/** A request that publishes a message, and what is kept of its answer. */
export interface KeyedRequest<Answer, Kept> {
  /** The Idempotency-Key header. */
  header: string | string[] | undefined
  /** The name of the caller, and what holds the answer for it. */
  caller: string
  share: MemoryShare
  /** What is done with the message. The same message at another address is another request. */
  operation: string
  message: Message
  run(): Promise<Answer>
  /** What has to be kept of the answer: not what follows from the message. */
  keep(answer: Answer): Kept
  /** How many bytes that holds. */
  sizeOf(kept: Kept): number
  restore(kept: Kept): Answer
  /** Called before the first answer, or the first error, is given again. */
  onReplay(): void
}

/**
 * Runs a request, but only once for each key. A request without a key always runs.
 * @throws CausewayError `idempotency-running`, `idempotency-mismatch`, what `claim` throws, or the request's own error
 */
export type Once = <Answer, Kept>(request: KeyedRequest<Answer, Kept>) => Promise<Answer>

const MAX_KEY_LENGTH = 255
/** Stands for the topic in the text of an error that is kept. No topic of a message contains it. */
const TOPIC = '\0'

export function createOnce(store: IdempotencyStore<unknown>, observe: (result: IdempotencyResult) => void): Once {
  async function runOnce<Answer, Kept>(
    header: string | string[],
    { caller, share, operation, message, run, keep, sizeOf, restore, onReplay }: KeyedRequest<Answer, Kept>,
  ): Promise<Answer> {
    const key = { caller, key: parseKey(header), share }
    const claim = (await store.claim(key, fingerprint(operation, message))) as ClaimResult<Kept>
    observe(claim.state === 'done' ? 'replayed' : claim.state)
    if (claim.state === 'running') {
      throw new CausewayError('idempotency-running', 'The first request with this Idempotency-Key is still running', {
        retryAfter: 1,
      })
    }
    if (claim.state === 'mismatch') {
      throw new CausewayError(
        'idempotency-mismatch',
        'This Idempotency-Key was used for a different request; use a new key for each request',
      )
    }
    if (claim.state === 'done') {
      onReplay()
      if ('error' in claim.outcome) throw restoredError(claim.outcome.error, message.topic)
      return restore(claim.outcome.answer)
    }
    let answer: Answer
    try {
      answer = await run()
    } catch (error) {
      if (error instanceof CausewayError && hadEffect(error)) {
        const kept = keptError(error, message.topic)
        await store.keep(key, { error: kept }, 2 * kept.detail.length)
      } else await store.free(key)
      throw error
    }
    const kept = keep(answer)
    await store.keep(key, { answer: kept }, sizeOf(kept))
    return answer
  }
  return (request) => (request.header === undefined ? request.run() : runOnce(request.header, request))
}

/** The error for a request with a key where keys are not supported: it must not be taken for protected. */
export function refuseIdempotencyKey({ headers }: FastifyRequest): CausewayError | undefined {
  if (headers['idempotency-key'] === undefined) return undefined
  const detail = 'is not supported here; a retry would be carried out again'
  return new CausewayError('invalid-request', `headers #/idempotency-key ${detail}`, {
    faults: [{ in: 'headers', pointer: '#/idempotency-key', detail }],
  })
}

function keptError({ kind, message, details }: CausewayError, topic: string): KeptError {
  const { mqtt, outcome, retryAfter } = details
  return {
    code: kind.code,
    detail: message.replaceAll(topic, TOPIC),
    details: {
      ...(mqtt !== undefined && { mqtt }),
      ...(outcome !== undefined && { outcome }),
      ...(retryAfter !== undefined && { retryAfter }),
    },
  }
}

function restoredError({ code, detail, details }: KeptError, topic: string): CausewayError {
  return new CausewayError(
    code,
    detail.replaceAll(TOPIC, () => topic),
    details,
  )
}

/**
 * Whether the error has to be the answer to each retry: the broker has the message, may have it, or refused it for
 * good. After a refusal that is retryable the same key has to work again.
 */
function hadEffect({ kind, details }: CausewayError): boolean {
  // A request that got no reply in time was published all the same.
  if (kind.code === 'no-reply') return details.outcome !== 'not-sent'
  return details.outcome === 'unknown' || (details.mqtt !== undefined && !kind.retryable)
}

/** Reads a structured field string (RFC 8941 section 3.3.3). The quotes may be missing. */
function parseKey(header: string | string[]): string {
  const value = header.toString().trim()
  const quoted = /^"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/.exec(value)
  const key = quoted ? quoted[1]!.replace(/\\(["\\])/g, '$1') : /^[\x21\x23-\x2b\x2d-\x7e]+$/.test(value) ? value : ''
  if (key !== '' && key.length <= MAX_KEY_LENGTH) return key
  const detail = `must be a string of 1 to ${MAX_KEY_LENGTH} printable ASCII characters, in double quotes`
  throw new CausewayError('invalid-request', `headers #/idempotency-key ${detail}`, {
    faults: [{ in: 'headers', pointer: '#/idempotency-key', detail }],
  })
}

/**
 * Identifies a message and what is done with it, in whatever order its properties came. Leaves out the trace context,
 * which a retry may have anew.
 */
function fingerprint(operation: string, { topic, payload, qos, retain, properties, ambient }: Message): string {
  return createHash('sha256')
    .update(JSON.stringify([operation, topic, qos, retain, inOrder(properties), ambient?.contentType]))
    .update(payload)
    .digest('base64')
}

function inOrder(properties: MessageProperties | undefined): unknown {
  if (properties === undefined) return undefined
  const { userProperties, ...others } = properties
  return [sorted(others), userProperties && sorted(userProperties)]
}

function sorted(object: object): [string, unknown][] {
  return Object.entries(object).toSorted(([a], [b]) => (a < b ? -1 : 1))
}
