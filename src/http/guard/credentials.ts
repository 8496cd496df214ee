import type { FastifyRequest } from 'fastify'
import { type Credentials, parseAuthorization } from '../../auth/credentials.ts'
import { CausewayError } from '../../errors.ts'
import { authorizationOfCookie } from './cookie.ts'

/** Where credentials are accepted, besides the Authorization header. */
export interface CredentialSources {
  cookie: boolean
  /**
   * `access_token` in the query (RFC 6750 section 2.3). URLs end up in browser histories and in the logs of proxies.
   */
  query: boolean
}

export interface FoundCredentials {
  credentials: Credentials | undefined
  source: 'header' | 'query' | 'cookie'
}

/**
 * The credentials of a request. A token is removed from the query, so that validation does not see it. A header takes
 * precedence over a cookie, which browsers send unasked.
 * @throws CausewayError `invalid-request` where a token comes twice
 */
export function credentialsOf(request: FastifyRequest, { cookie, query }: CredentialSources): FoundCredentials {
  const header = request.headers.authorization
  const token = query ? removeQueryToken(request.query as Record<string, unknown>) : undefined
  if (token !== undefined) {
    if (header !== undefined || typeof token !== 'string') {
      throw new CausewayError('invalid-request', 'The request has credentials more than once')
    }
    return { credentials: parseAuthorization(`Bearer ${token}`), source: 'query' }
  }
  if (header !== undefined) return { credentials: parseAuthorization(header), source: 'header' }
  const fromCookie = cookie ? authorizationOfCookie(request) : undefined
  return fromCookie === undefined
    ? { credentials: undefined, source: 'header' }
    : { credentials: parseAuthorization(fromCookie), source: 'cookie' }
}

function removeQueryToken(query: Record<string, unknown>): unknown {
  const token = query['access_token']
  delete query['access_token']
  return token
}
