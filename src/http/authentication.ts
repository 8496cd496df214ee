import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Admission } from '../auth/authenticator.ts'
import { type Credentials, parseAuthorization } from '../auth/credentials.ts'
import type { Identity } from '../auth/identity.ts'
import { asProblem } from './problem.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who calls. Set before anything else happens to a request of these routes. */
    identity: Identity
  }
}

export interface AuthenticationOptions {
  authenticate(credentials: Credentials | undefined, address: string): Promise<Admission>
  /** Called with `accepted`, or the code of the problem. */
  observe(result: string): void
}

/** Makes every route that is registered behind it in this instance need an identity. */
export function requireIdentity(app: FastifyInstance, { authenticate, observe }: AuthenticationOptions): void {
  app.decorateRequest('identity')
  app.addHook('onRequest', async (request, reply) => {
    try {
      const { identity, release } = await authenticate(credentialsOf(request), request.ip)
      observe('accepted')
      request.identity = identity
      if (release === undefined) return
      // A caller who left while it was let in closes no more.
      if (reply.raw.closed) release()
      else reply.raw.once('close', release)
    } catch (error) {
      observe(asProblem(error).kind.code)
      // Node would read a body to its end, and some have none, to keep the connection of someone it does not know.
      if (request.raw.httpVersionMajor === 1 && hasBody(request)) reply.header('connection', 'close')
      throw error
    }
  })
}

function credentialsOf({ headers }: FastifyRequest): Credentials | undefined {
  return headers.authorization === undefined ? undefined : parseAuthorization(headers.authorization)
}

function hasBody({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0'
}
