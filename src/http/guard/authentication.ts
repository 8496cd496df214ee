import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestHookHandler } from 'fastify'
import type { Admission, Authenticator } from '../../auth/authenticator.ts'
import type { Identity } from '../../auth/identity.ts'
import { CausewayError } from '../../errors.ts'
import type { MemoryShare } from '../../memory/account.ts'
import { asProblem } from '../message/problem.ts'
import { expiredCookie } from './cookie.ts'
import { isDisconnected } from '../server/disconnects.ts'
import type { Credentials } from '../../auth/credentials.ts'
import { type CredentialSources, credentialsOf, type FoundCredentials } from './credentials.ts'
import { hasOriginHeaders, type Origins } from './origin.ts'
import type { RequestLimits } from './request-limits.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The caller. Set by the first hook of the routes that need an identity. */
    identity: Identity
  }
}

export interface AuthenticationOptions {
  authenticate: Authenticator['authenticate']
  sources: CredentialSources
  origins: Origins
  /** Serve only requests whose Host is an IP address, localhost or the host of one of `origins`. */
  trustedHostsOnly: boolean
  limits: RequestLimits
  /** The share of memory of an identity, by its name. */
  shareOf(name: string): MemoryShare
  /** Called with `accepted`, or with the code of the problem. */
  observe(result: string): void
}

/** Makes every route that is registered after this call in the same Fastify instance require an identity. */
export function requireIdentity(app: FastifyInstance, authenticationHook: onRequestHookHandler): void {
  app.addHook('onRequest', authenticationHook)
}

/** The hook that finds out who calls, and refuses those who may not. Sets `identity` and `share` of the request. */
export function createAuthenticationHook({
  authenticate,
  sources,
  origins,
  trustedHostsOnly,
  limits,
  shareOf,
  observe,
}: AuthenticationOptions): onRequestHookHandler {
  /** Checks what needs no credentials, then finds the credentials. */
  function check(request: FastifyRequest, reply: FastifyReply): FoundCredentials {
    if (trustedHostsOnly && !origins.isTrustedHost(request)) {
      throw new CausewayError(
        'forbidden',
        `Without authentication the host name ${request.host} is refused, because a page could make any ` +
          'name point here. Use an IP address or localhost, or add the origin to CAUSEWAY_CORS_ORIGINS',
      )
    }
    const found = credentialsOf(request, sources)
    if (found.source === 'cookie' && request.method !== 'GET' && !hasOriginHeaders(request)) {
      throw new CausewayError('forbidden', 'A request with a cookie needs an Origin or Sec-Fetch-Site header')
    }
    if (found.source === 'query') reply.header('cache-control', 'no-store')
    return found
  }

  /** Returns a promise only where there is something to wait for, as all functions that it calls do. */
  function enter(request: FastifyRequest, reply: FastifyReply): void | Promise<void> {
    const limited = limits.checkAddress(request.address, reply)
    return limited instanceof Promise
      ? limited.then(() => authenticateCaller(request, reply))
      : authenticateCaller(request, reply)
  }

  function authenticateCaller(request: FastifyRequest, reply: FastifyReply): void | Promise<void> {
    const { source, credentials } = check(request, reply)
    if (source === 'cookie') return authenticateCookie(credentials, request, reply)
    const admission = authenticate(credentials, request.address)
    return admission instanceof Promise
      ? admission.then((each) => admit(request, reply, each))
      : admit(request, reply, admission)
  }

  async function authenticateCookie(
    credentials: Credentials | undefined,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<void> {
    try {
      await admit(request, reply, await authenticate(credentials, request.address))
    } catch (error) {
      // The cookie is HttpOnly, so no script of the page could delete it once it is no longer valid.
      if (asProblem(error).kind.status === 401) reply.header('set-cookie', expiredCookie(request))
      throw error
    }
  }

  function admit(request: FastifyRequest, reply: FastifyReply, { identity, release }: Admission): void | Promise<void> {
    request.identity = identity
    // Without authentication everybody has the same, nameless identity: there the share of the address stays.
    if (identity.name !== '') request.share = shareOf(identity.name)
    // The `close` event of a client that is gone already will not come again.
    if (isDisconnected(reply)) release?.()
    else if (release !== undefined) reply.raw.once('close', release)
    return limits.checkIdentity(identity, reply)
  }

  function accept(reply: FastifyReply, done: () => void): void {
    observe('accepted')
    // There is nobody to answer.
    if (isDisconnected(reply)) reply.hijack()
    else done()
  }

  function refuse(error: unknown, request: FastifyRequest, done: (error: Error) => void): void {
    observe(asProblem(error).kind.code)
    // A body that may never end need not be sent to the end. HTTP/2 ends the stream instead.
    if (mayExceedBodyLimit(request)) request.isLast = true
    done(error as Error)
  }

  return (request, reply, done) => {
    try {
      const entered = enter(request, reply)
      if (entered instanceof Promise) {
        return void entered.then(
          () => accept(reply, done),
          (error: unknown) => refuse(error, request, done),
        )
      }
    } catch (error) {
      return refuse(error, request, done)
    }
    accept(reply, done)
  }
}

/** Whether the body is too large, or of unknown length. */
function mayExceedBodyLimit({ headers, routeOptions }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > routeOptions.bodyLimit!
}
