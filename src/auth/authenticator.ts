import type { Credentials } from './credentials.ts'
import type { Identity } from './identity.ts'

/** The result of a successful authentication. */
export interface Admission {
  identity: Identity
  /** To be called once, when the request is over. */
  release?(): void
}

export interface Authenticator {
  /**
   * Finds out who the caller is. Returns a promise only where there is something to wait for: a promise costs more than
   * all other checks of a request together.
   * @param address IP address that the request came from
   * @throws CausewayError `unauthorized` with a challenge
   */
  authenticate(credentials: Credentials | undefined, address: string): Admission | Promise<Admission>
}
