import { CausewayError } from '../errors.ts'
import { ended, insufficient } from './challenge.ts'

/** Who calls, and what it may do. */
export interface Identity {
  /** The same for the same caller on every replica, and never another's. */
  readonly name: string
  mayPublish(topic: string): boolean
  /** @param filter as it is subscribed to, `$share/GROUP/` included */
  maySubscribe(filter: string): boolean
  /** When it ends, in milliseconds of `Date.now()`. */
  readonly expiresAt?: number | undefined
  /** Of its own, in place of those for all: requests a second, and streams open at once. */
  readonly limits?: { readonly rate?: number | undefined; readonly streams?: number | undefined } | undefined
  /** Aborted if it ends before. */
  readonly revoked?: AbortSignal | undefined
}

/** Everyone, where nobody has to say who they are. */
export const ANYONE: Identity = { name: '', mayPublish: () => true, maySubscribe: () => true }

/** @throws CausewayError `unauthorized` where the identity has ended */
function requireCurrent({ expiresAt = Infinity, revoked }: Identity): void {
  if (revoked?.aborted || expiresAt <= Date.now()) throw ended()
}

/**
 * @throws CausewayError `forbidden` that says which rule is missing, and nothing of those there are; `unauthorized` where
 * the identity has ended
 */
export function requirePublish(identity: Identity, topic: string): void {
  requireCurrent(identity)
  if (!identity.mayPublish(topic)) {
    throw new CausewayError('forbidden', `Publishing to ${topic} needs a publish rule that matches it`, {
      challenge: insufficient,
    })
  }
}

/** @throws CausewayError as `requirePublish` does, for the first of the filters that is not allowed */
export function requireSubscribe(identity: Identity, filters: readonly string[]): void {
  requireCurrent(identity)
  const refused = filters.find((filter) => !identity.maySubscribe(filter))
  if (refused !== undefined) {
    throw new CausewayError('forbidden', `Subscribing to ${refused} needs a subscribe rule that contains it`, {
      challenge: insufficient,
    })
  }
}
