import type { Credentials } from './credentials.ts'
import type { Identity } from './identity.ts'

/** A caller that was let in. */
export interface Admission {
  identity: Identity
  /** To be called when the request is over, once. */
  release?(): void
}

/** Tells who a caller is; one without credentials shows none. */
export interface Authenticator {
  /**
   * A promise only where there is something to wait for: it costs a request more than all else that is checked of it.
   * @param address where the request came from
   * @throws CausewayError `unauthorized` with a challenge
   */
  authenticate(credentials: Credentials | undefined, address: string): Admission | Promise<Admission>
}
