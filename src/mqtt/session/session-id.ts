import { createHash } from 'node:crypto'

export interface SessionKey {
  /** The identity that the session belongs to. */
  owner: string
  name: string
  filters: readonly string[]
}

const OWNER_DIGITS = 12
const KEY_DIGITS = 20
const CLIENT_ID_PREFIX = 'causeway-session-'

/** The same on every bridge of a broker. The order of the filters, and repeated ones, make no difference. */
export function sessionId({ owner, name, filters }: SessionKey): string {
  return `${ownerPart(owner)}-${digest([owner, name, [...new Set(filters)].sort()], KEY_DIGITS)}`
}

/** Whether a text has the form of a session id of this owner. */
export function isSessionOf(owner: string, id: string): boolean {
  return new RegExp(`^${ownerPart(owner)}-[0-9a-f]{${KEY_DIGITS}}$`).test(id)
}

export function sessionClientId(id: string): string {
  return CLIENT_ID_PREFIX + id
}

function ownerPart(owner: string): string {
  return digest(owner, OWNER_DIGITS)
}

function digest(value: unknown, digits: number): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, digits)
}
