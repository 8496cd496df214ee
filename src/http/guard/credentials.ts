import type { FastifyRequest } from 'fastify'
import { type Credentials, parseAuthorization } from '../../auth/credentials.ts'
import { CausewayError } from '../../errors.ts'
import { authorizationOfCookie } from '../routes/cookie.ts'

/** Where credentials are looked for beside the Authorization header. */
export interface CredentialPlaces {
  cookie: boolean
  /** `access_token` in the query (RFC 6750 section 2.3), which ends up in histories and in the logs of proxies. */
  query: boolean
}

export interface FoundCredentials {
  credentials: Credentials | undefined
  from: 'header' | 'query' | 'cookie'
}

/**
 * The credentials of a request; a token in the query is taken out of it.
 * @throws CausewayError where there are two
 */
export function credentialsOf(request: FastifyRequest, { cookie, query }: CredentialPlaces): FoundCredentials {
  const header = request.headers.authorization
  const token = query ? takeToken(request.query as Record<string, unknown>) : undefined
  if (token !== undefined) {
    if (header !== undefined || typeof token !== 'string') {
      throw new CausewayError('invalid-request', 'Credentials are to be sent once')
    }
    return { credentials: parseAuthorization(`Bearer ${token}`), from: 'query' }
  }
  if (header !== undefined) return { credentials: parseAuthorization(header), from: 'header' }
  const kept = cookie ? authorizationOfCookie(request) : undefined
  return kept === undefined
    ? { credentials: undefined, from: 'header' }
    : { credentials: parseAuthorization(kept), from: 'cookie' }
}

function takeToken(query: Record<string, unknown>): unknown {
  const token = query['access_token']
  delete query['access_token']
  return token
}
