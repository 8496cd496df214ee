import { CausewayError } from '../errors.ts'
import type { Credentials } from './credentials.ts'

const BEARER = 'Bearer realm="causeway"'

/** `WWW-Authenticate` where user name and password are accepted besides tokens. */
export const eitherScheme = `${BEARER}, Basic realm="causeway", charset="UTF-8"`

/** `WWW-Authenticate` where the credentials are valid but do not allow the request (RFC 6750 section 3.1). */
export const insufficient = `${BEARER}, error="insufficient_scope"`

/** For a request without credentials. The challenge names no error then (RFC 6750 section 3.1). */
export function missing(challenge = BEARER): CausewayError {
  return new CausewayError('unauthorized', 'Credentials are required in the Authorization header', { challenge })
}

/** @param why becomes part of a header, so it must be printable ASCII without quotes */
export function refused(why: string, cause?: unknown): CausewayError {
  return new CausewayError('unauthorized', why, {
    challenge: `${BEARER}, error="invalid_token", error_description="${why}"`,
    cause,
  })
}

/**
 * The token, where only bearer tokens are accepted.
 * @throws CausewayError `unauthorized` where there are no credentials, or others
 */
export function tokenOf(credentials: Credentials | undefined): string {
  if (credentials === undefined) throw missing()
  if (credentials.scheme !== 'bearer') throw refused('Only bearer tokens are accepted')
  return credentials.token
}

/** For credentials that were valid earlier. */
export function ended(): CausewayError {
  return refused('The credentials have expired or were revoked')
}
