import { createHash } from 'node:crypto'
import { CausewayError } from '../../errors.ts'
import type { Message } from '../../mqtt/message.ts'

/** How a request with a key ended: with an answer, or with an error as its answer. */
export type Outcome<Answer> = { answer: Answer } | { error: CausewayError }

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
}

/** Keeps the keys of requests and their first answers. Each implementation limits their number and their age. */
export interface IdempotencyStore<Answer> {
  /**
   * Reserves a free key for the request with this fingerprint (`new`), or returns what the key is used for.
   * @throws CausewayError `overloaded` where no key can be kept
   */
  claim(key: StoredKey, fingerprint: string): Promise<ClaimResult<Answer>>
  /** Keeps the answer to a claimed key. */
  keep(key: StoredKey, outcome: Outcome<Answer>): Promise<void>
  /** Gives a claimed key back, because its request had no effect. */
  free(key: StoredKey): Promise<void>
}

export type IdempotencyResult = 'new' | 'replayed' | 'running' | 'mismatch'

/** The Idempotency-Key header of a request, and its caller's name. */
export interface RequestKey {
  header: string | string[] | undefined
  caller: string
}

/**
 * Runs a request, but only once for each key. A request without a key always runs.
 * @param fingerprint identifies the request; called only with a key
 * @param onReplay called before the first answer, or the first error, is given again
 * @throws CausewayError `idempotency-running`, `idempotency-mismatch`, what `claim` throws, or the request's own error
 */
export type Once = <Answer>(
  key: RequestKey,
  fingerprint: () => string,
  run: () => Promise<Answer>,
  onReplay: () => void,
) => Promise<Answer>

const MAX_KEY_LENGTH = 255

export function createOnce(store: IdempotencyStore<unknown>, observe: (result: IdempotencyResult) => void): Once {
  async function runOnce<Answer>(
    header: string | string[],
    caller: string,
    fingerprintOf: () => string,
    run: () => Promise<Answer>,
    onReplay: () => void,
  ): Promise<Answer> {
    const key = { caller, key: parseKey(header) }
    const claim = (await store.claim(key, fingerprintOf())) as ClaimResult<Answer>
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
      if ('error' in claim.outcome) throw claim.outcome.error
      return claim.outcome.answer
    }
    try {
      const answer = await run()
      await store.keep(key, { answer })
      return answer
    } catch (error) {
      if (error instanceof CausewayError && hadEffect(error)) await store.keep(key, { error })
      else await store.free(key)
      throw error
    }
  }
  return ({ header, caller }, fingerprintOf, run, onReplay) =>
    header === undefined ? run() : runOnce(header, caller, fingerprintOf, run, onReplay)
}

/**
 * Whether the error has to be the answer to each retry: the broker has the message, may have it, or refused it for
 * good. After a refusal that is retryable the same key has to work again.
 */
function hadEffect({ kind, details }: CausewayError): boolean {
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

/** Identifies a message and what is done with it. Leaves out the trace context, which a retry may have anew. */
export function fingerprint(operation: string, { topic, payload, qos, retain, properties, ambient }: Message): string {
  return createHash('sha256')
    .update(JSON.stringify([operation, topic, qos, retain, properties, ambient?.contentType]))
    .update(payload)
    .digest('base64')
}
