import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Admission, Authenticator } from '../../auth/authenticator.ts'
import type { Identity } from '../../auth/identity.ts'
import { CausewayError } from '../../errors.ts'
import { noCookie } from '../routes/cookie.ts'
import { isDisconnected } from '../server/disconnects.ts'
import { isForeign, isOwnName, saysOrigin } from './origin.ts'
import { asProblem } from '../message/problem.ts'
import type { RequestLimits } from './request-limits.ts'
import { type CredentialPlaces, credentialsOf, type FoundCredentials } from './credentials.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who calls. Set before anything else happens to a request of these routes. */
    identity: Identity
  }
}

export interface AuthenticationOptions {
  authenticate: Authenticator['authenticate']
  places: CredentialPlaces
  /** Origins whose pages may call. */
  origins: ReadonlySet<string>
  /** Whether to serve under names of those origins alone, beside addresses and localhost. */
  ownNamesOnly: boolean
  limits: RequestLimits
  /** Called with `accepted`, or the code of the problem. */
  observe(result: string): void
}

/** Makes every route that is registered behind it in this instance need an identity. */
export function requireIdentity(
  app: FastifyInstance,
  { authenticate, places, origins, ownNamesOnly, limits, observe }: AuthenticationOptions,
): void {
  function check(request: FastifyRequest, reply: FastifyReply): FoundCredentials {
    limits.takeFromAddress(request.ip, reply)
    if (isForeign(request, origins)) {
      throw new CausewayError(
        'forbidden',
        `Pages of ${request.headers.origin} may not call; CAUSEWAY_CORS_ORIGINS names those that may`,
      )
    }
    if (ownNamesOnly && !isOwnName(request, origins)) {
      throw new CausewayError(
        'forbidden',
        `Without authentication nothing is served under the name ${request.headers.host}, which any page could have pointed here; CAUSEWAY_CORS_ORIGINS names origins that may call`,
      )
    }
    const found = credentialsOf(request, places)
    if (found.from === 'cookie' && request.method !== 'GET' && !saysOrigin(request)) {
      throw new CausewayError('forbidden', 'A request with a cookie has to say by Origin where it comes from')
    }
    if (found.from === 'query') reply.header('cache-control', 'no-store')
    return found
  }

  /** Whether there is still somebody to answer. */
  function admit(request: FastifyRequest, reply: FastifyReply, { identity, release }: Admission): boolean {
    request.identity = identity
    const isGone = isDisconnected(reply)
    // Whoever left while it was let in closes no more: what waits for that would wait for ever.
    if (isGone) release?.()
    else if (release !== undefined) reply.raw.once('close', release)
    limits.takeFromIdentity(identity, reply)
    observe('accepted')
    if (isGone) reply.hijack()
    return !isGone
  }

  app.decorateRequest('identity')
  app.addHook('onRequest', (request, reply, done) => {
    let from: FoundCredentials['from'] | undefined
    const refuse = (error: unknown): void => {
      const { kind } = asProblem(error)
      observe(kind.code)
      // No script can end a cookie that is good for nothing any more.
      if (from === 'cookie' && kind.status === 401) reply.header('set-cookie', noCookie(request))
      // To keep the connection of someone it does not know, Node would read a body to its end, and this one may have none.
      if (request.raw.httpVersionMajor === 1 && mayBeEndless(request)) reply.header('connection', 'close')
      done(error as Error)
    }
    const proceed = (admission: Admission): void => {
      try {
        if (!admit(request, reply, admission)) return
      } catch (error) {
        return refuse(error)
      }
      done()
    }
    let admission: Admission | Promise<Admission>
    try {
      const { credentials, from: place } = check(request, reply)
      from = place
      admission = authenticate(credentials, request.ip)
    } catch (error) {
      return refuse(error)
    }
    if (admission instanceof Promise) admission.then(proceed, refuse)
    else proceed(admission)
  })
}

function mayBeEndless({ headers, routeOptions }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > routeOptions.bodyLimit!
}
