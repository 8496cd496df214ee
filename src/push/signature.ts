import { createHmac } from 'node:crypto'

/** Standard Webhooks wants 24 to 64 bytes. Shorter ones can be guessed. */
const KEY_BYTES_MIN = 16
const PREFIX = 'whsec_'

/**
 * The keys of a secret: `whsec_` and base64, several separated by spaces.
 * @returns undefined where it is not one
 */
export function parseSecret(secret: string): Buffer[] | undefined {
  const keys = secret.trim().split(/\s+/).map(parseKey)
  return keys.every((key) => key !== undefined) ? keys : undefined
}

function parseKey(text: string): Buffer | undefined {
  if (!text.startsWith(PREFIX)) return undefined
  const encoded = text.slice(PREFIX.length)
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(encoded)) return undefined
  const key = Buffer.from(encoded, 'base64')
  return key.length >= KEY_BYTES_MIN ? key : undefined
}

/**
 * Headers after Standard Webhooks 1.0: the id of the message, the time of the try, and one signature for each key.
 * Without a key the first two alone. Names and values in turn.
 * @param nowMs of `Date.now()`; receivers refuse a time that is more than five minutes off
 */
export function webhookHeaders(id: string, body: Buffer, keys: readonly Buffer[], nowMs: number): string[] {
  const timestamp = String(Math.floor(nowMs / 1000))
  const headers = ['webhook-id', id, 'webhook-timestamp', timestamp]
  if (keys.length === 0) return headers
  const signatures = keys.map(
    (key) => `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`,
  )
  headers.push('webhook-signature', signatures.join(' '))
  return headers
}
