import { CausewayError } from '../errors.ts'
import type { Credentials } from './credentials.ts'

const BEARER = 'Bearer realm="causeway"'

/** Where a user name and password are taken too. */
export const eitherScheme = `${BEARER}, Basic realm="causeway", charset="UTF-8"`

/** For a caller whose credentials are good, but not for this (RFC 6750 section 3.1). */
export const insufficient = `${BEARER}, error="insufficient_scope"`

/** For a request without credentials: no error is named (RFC 6750 section 3.1). */
export function missing(challenge = BEARER): CausewayError {
  return new CausewayError('unauthorized', 'This needs credentials, in the Authorization header', { challenge })
}

/** @param why goes into a header: printable ASCII without quotes */
export function refused(why: string, cause?: unknown): CausewayError {
  return new CausewayError('unauthorized', why, {
    challenge: `${BEARER}, error="invalid_token", error_description="${why}"`,
    cause,
  })
}

/**
 * The token of credentials where nothing else is taken.
 * @throws CausewayError where they are others, or none
 */
export function tokenOf(credentials: Credentials | undefined): string {
  if (credentials === undefined) throw missing()
  if (credentials.scheme !== 'bearer') throw refused('Only bearer tokens are taken here')
  return credentials.token
}

export function ended(): CausewayError {
  return refused('The credentials have expired or were revoked')
}
