import { CausewayError } from '../errors.ts'

const BEARER = 'Bearer realm="causeway"'

/** For a caller whose credentials are good, but not for this (RFC 6750 section 3.1). */
export const insufficient = `${BEARER}, error="insufficient_scope"`

/** For a request without credentials: no error is named (RFC 6750 section 3.1). */
export function missing(): CausewayError {
  return new CausewayError('unauthorized', 'This needs credentials: send them as Authorization: Bearer TOKEN', { challenge: BEARER })
}

/** @param why goes into a header: printable ASCII without quotes */
export function refused(why: string, cause?: unknown): CausewayError {
  return new CausewayError('unauthorized', why, { challenge: `${BEARER}, error="invalid_token", error_description="${why}"`, cause })
}

export function ended(): CausewayError {
  return refused('The credentials have expired or were revoked')
}
