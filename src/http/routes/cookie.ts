import type { FastifyInstance } from 'fastify'
import { CausewayError } from '../../errors.ts'
import { credentialCookie, expiredCookie } from '../guard/cookie.ts'
import { problems } from '../message/problem-responses.ts'

/** Longest value. Browsers discard cookies above 4096 bytes, name and attributes included. */
const MAX_VALUE_LENGTH = 3900

/**
 * Keeps credentials in a cookie that no script can read, for `EventSource`, which cannot send an Authorization header.
 */
export async function cookieRoutes(app: FastifyInstance): Promise<void> {
  app.post('/cookie', {
    schema: {
      operationId: 'setCookie',
      summary: 'Keep the credentials of this request in a cookie',
      description:
        'Available where `CAUSEWAY_AUTH_COOKIE` is set. For browsers, whose `EventSource` cannot send an ' +
        'Authorization header. Scripts cannot read the cookie, only pages of this site send it, and it expires ' +
        'with its credentials.',
      tags: ['operation'],
      response: {
        204: { description: 'The cookie is set', type: 'null' },
        ...problems('invalid-request', 'forbidden'),
      },
    },
    handler: async (request, reply) => {
      const { authorization } = request.headers
      if (authorization === undefined) {
        throw new CausewayError('invalid-request', 'Send the credentials to keep in the Authorization header')
      }
      const value = Buffer.from(authorization).toString('base64url')
      if (value.length > MAX_VALUE_LENGTH) {
        throw new CausewayError('invalid-request', 'The credentials are too long for a cookie')
      }
      const { expiresAt } = request.identity
      const maxAgeS = expiresAt === undefined ? undefined : Math.max(0, Math.floor((expiresAt - Date.now()) / 1000))
      return reply
        .header('set-cookie', credentialCookie(request, value, maxAgeS))
        .header('cache-control', 'no-store')
        .code(204)
        .send(null)
    },
  })

  app.delete('/cookie', {
    schema: {
      operationId: 'deleteCookie',
      summary: 'Delete the cookie',
      description: 'Available where `CAUSEWAY_AUTH_COOKIE` is set.',
      tags: ['operation'],
      response: { 204: { description: 'The cookie is deleted', type: 'null' }, ...problems('forbidden') },
    },
    handler: async (request, reply) => reply.header('set-cookie', expiredCookie(request)).code(204).send(null),
  })
}
