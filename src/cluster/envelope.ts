import { createHmac, timingSafeEqual } from 'node:crypto'

/** Larger messages are not of a replica, and are not parsed. */
const ENVELOPE_BYTES_MAX = 16_384
/** The same secret makes the client ids of sessions; with this purpose its codes are of no use there. */
const PURPOSE = 'causeway cluster'

/**
 * The JSON in which replicas write to each other: `{"body": {...}, "mac": "..."}`. The code shows that the writer has
 * the secret. Without a secret there is none, and whoever may publish to the cluster topic can write as a replica.
 */
export class Envelopes {
  readonly #key: Buffer | undefined

  constructor(secret: string | undefined) {
    this.#key = secret === undefined ? undefined : createHmac('sha256', secret).update(PURPOSE).digest()
  }

  seal(body: object): Buffer {
    const mac = this.#mac(JSON.stringify(body))
    return Buffer.from(JSON.stringify({ body, ...(mac && { mac: mac.toString('base64url') }) }))
  }

  /** The body of an envelope; undefined for one that nobody with the secret has sealed, and for anything else. */
  open(payload: Buffer): unknown {
    if (payload.length > ENVELOPE_BYTES_MAX) return undefined
    try {
      const { body, mac } = JSON.parse(payload.toString()) as { body?: unknown; mac?: unknown }
      // `stringify` gives the text that was sealed: what it wrote once comes out the same again.
      const expected = this.#mac(JSON.stringify(body))
      if (expected === undefined) return body
      const given = Buffer.from(String(mac), 'base64url')
      return given.length === expected.length && timingSafeEqual(given, expected) ? body : undefined
    } catch {
      return undefined
    }
  }

  #mac(text: string): Buffer | undefined {
    return this.#key && createHmac('sha256', this.#key).update(text).digest()
  }
}
