import { createHash, createHmac } from 'node:crypto'

export interface SessionKey {
  /** The identity that the session belongs to. */
  owner: string
  name: string
  filters: readonly string[]
}

const OWNER_DIGITS = 12
const KEY_DIGITS = 20
/** 128 bits. */
const SECRET_DIGITS = 32

/** The same on every bridge of a broker. The order of the filters, and repeated ones, make no difference. */
export function sessionId({ owner, name, filters }: SessionKey): string {
  return `${ownerPart(owner)}-${digest([owner, name, [...new Set(filters)].sort()], KEY_DIGITS)}`
}

/** Whether a text has the form of a session id of this owner. */
export function isSessionOf(owner: string, id: string): boolean {
  return new RegExp(`^${ownerPart(owner)}-[0-9a-f]{${KEY_DIGITS}}$`).test(id)
}

export interface SessionClientIds {
  /** The same on all replicas: each of them must be able to open the session. */
  prefix: string
  /**
   * Without a secret a client id can be computed from owner, name and filters, and any MQTT client that the broker lets
   * connect with it takes the session's messages.
   */
  secret: string | undefined
}

/** The MQTT client id of a session. */
export function sessionClientId(id: string, { prefix, secret }: SessionClientIds): string {
  const name = secret === undefined ? id : createHmac('sha256', secret).update(id).digest('hex').slice(0, SECRET_DIGITS)
  return prefix + name
}

function ownerPart(owner: string): string {
  return digest(owner, OWNER_DIGITS)
}

function digest(value: unknown, digits: number): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, digits)
}
