import { CausewayError } from '../errors.ts'
import { ended, insufficient } from './challenge.ts'

/** A caller and its rights. */
export interface Identity {
  /** Unique for the caller, and the same on every replica. */
  readonly name: string
  mayPublish(topic: string): boolean
  /** @param filter with its `$share/GROUP/`, if it has one */
  maySubscribe(filter: string): boolean
  /** No rule allows it anything. */
  readonly hasNoRules?: boolean | undefined
  /** When the credentials expire, in milliseconds of `Date.now()`. */
  readonly expiresAt?: number | undefined
  /** Requests a second and open streams, in place of the limits for every caller; 0 for no limit. */
  readonly limits?: { readonly rate?: number | undefined; readonly streams?: number | undefined } | undefined
  /** Aborted when the credentials are revoked before they expire. */
  readonly revoked?: AbortSignal | undefined
}

/** The identity of every caller without authentication. */
export const ANYONE: Identity = { name: '', mayPublish: () => true, maySubscribe: () => true }

/** @throws CausewayError `unauthorized` where the credentials have expired or were revoked */
function requireCurrent({ expiresAt, revoked }: Identity): void {
  if (revoked?.aborted || (expiresAt !== undefined && expiresAt <= Date.now())) throw ended()
}

/**
 * @throws CausewayError `forbidden` where no rule allows it, without a word about the rules that exist; `unauthorized`
 * where the credentials have expired or were revoked
 */
export function requirePublish(identity: Identity, topic: string): void {
  requireCurrent(identity)
  if (!identity.mayPublish(topic)) {
    throw new CausewayError('forbidden', `Publishing to ${topic} needs a publish rule that matches it`, {
      challenge: insufficient,
    })
  }
}

/** @throws CausewayError as `requirePublish` does, for the first filter that is not allowed */
export function requireSubscribe(identity: Identity, filters: readonly string[]): void {
  requireCurrent(identity)
  const refused = filters.find((filter) => !identity.maySubscribe(filter))
  if (refused !== undefined) {
    throw new CausewayError('forbidden', `Subscribing to ${refused} needs a subscribe rule that contains it`, {
      challenge: insufficient,
    })
  }
}
