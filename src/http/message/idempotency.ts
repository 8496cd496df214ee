import { createHash } from 'node:crypto'
import { CausewayError } from '../../errors.ts'
import type { Message } from '../../mqtt/message.ts'

/** What became of a request with a key: an answer, or the error that was its answer. */
export type Outcome<Answer> = { answer: Answer } | { error: CausewayError }

/** What a store knows of a key. */
export type Claim<Answer> =
  | { state: 'new' }
  | { state: 'running' }
  | { state: 'mismatch' }
  | { state: 'done'; outcome: Outcome<Answer> }

/** A key, and the name of the caller it is a key of. */
export interface StoredKey {
  scope: string
  key: string
}

/** Keys of requests and their first answers. Bounded in number and time by whoever implements it. */
export interface IdempotencyStore<Answer> {
  /** Takes the caller's key for a request with this fingerprint where it is free, else says what stands in the way. */
  claim(key: StoredKey, fingerprint: string): Promise<Claim<Answer>>
  keep(key: StoredKey, outcome: Outcome<Answer>): Promise<void>
  /** Frees the key: the request has had no effect. */
  free(key: StoredKey): Promise<void>
}

export type IdempotencyResult = 'new' | 'replayed' | 'running' | 'mismatch'

/** The Idempotency-Key field of a request, and the name of the caller it is a key of. */
export interface Key {
  header: string | string[] | undefined
  scope: string
}

/**
 * Runs a request once for each key, and without a key always.
 * @param onReplay called before what follows is the first answer again, be it an error
 * @throws CausewayError `idempotency-running` or `idempotency-mismatch`, or what the request threw the first time
 */
export type Once = <Answer>(
  key: Key,
  fingerprint: () => string,
  run: () => Promise<Answer>,
  onReplay: () => void,
) => Promise<Answer>

const MAX_KEY_LENGTH = 255

export function createOnce(store: IdempotencyStore<unknown>, observe: (result: IdempotencyResult) => void): Once {
  async function runOnce<Answer>(
    header: string | string[],
    scope: string,
    fingerprintOf: () => string,
    run: () => Promise<Answer>,
    onReplay: () => void,
  ): Promise<Answer> {
    const key = { scope, key: parseKey(header) }
    const claim = (await store.claim(key, fingerprintOf())) as Claim<Answer>
    observe(claim.state === 'done' ? 'replayed' : claim.state)
    if (claim.state === 'running') {
      throw new CausewayError(
        'idempotency-running',
        'The first request with this Idempotency-Key is not answered yet',
        { retryAfter: 1 },
      )
    }
    if (claim.state === 'mismatch') {
      throw new CausewayError(
        'idempotency-mismatch',
        'This Idempotency-Key belongs to another request; use a new one for a new request',
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
  return ({ header, scope }, fingerprintOf, run, onReplay) =>
    header === undefined ? run() : runOnce(header, scope, fingerprintOf, run, onReplay)
}

/** Whether the broker got the message, or may have, or has refused it for good: where it says "later", the same key has to work then. */
function hadEffect({ kind, details }: CausewayError): boolean {
  return details.outcome === 'unknown' || (details.mqtt !== undefined && !kind.retryable)
}

/** A structured field string (RFC 8941 section 3.3.3), or the same without its quotes. */
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

/** What tells one message from another. Trace context does not: a request that is tried again may have a new one. */
export function fingerprint(operation: string, { topic, payload, qos, retain, properties, ambient }: Message): string {
  return createHash('sha256')
    .update(JSON.stringify([operation, topic, qos, retain, properties, ambient?.contentType]))
    .update(payload)
    .digest('base64')
}
