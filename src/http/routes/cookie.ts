import type { FastifyInstance, FastifyRequest } from 'fastify'
import { CausewayError } from '../../errors.ts'
import { problems } from '../message/problem-responses.ts'

/** Longest value. Browsers discard cookies above 4096 bytes, name and attributes included. */
const MAX_VALUE_LENGTH = 3900
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/

/**
 * With `__Host-` browsers take the cookie only over HTTPS and send it to this host only. On loopback there is usually
 * no HTTPS, so the name has no prefix there.
 */
function nameFor({ hostname }: FastifyRequest): string {
  return LOOPBACK.test(hostname) ? 'causeway' : '__Host-causeway'
}

/** @param maxAgeS undefined for a cookie that ends with the browser */
function cookie(request: FastifyRequest, value: string, maxAgeS: number | undefined): string {
  const name = nameFor(request)
  return [
    `${name}=${value}`,
    'Path=/',
    'HttpOnly',
    'SameSite=Strict',
    ...(name.startsWith('__Host-') || request.protocol === 'https' ? ['Secure'] : []),
    ...(maxAgeS === undefined ? [] : [`Max-Age=${maxAgeS}`]),
  ].join('; ')
}

/** A Set-Cookie value that makes the browser delete the cookie. */
export function expiredCookie(request: FastifyRequest): string {
  return cookie(request, '', 0)
}

/** The Authorization header that the request's cookie contains. Undefined without a cookie. */
export function authorizationOfCookie(request: FastifyRequest): string | undefined {
  const prefix = `${nameFor(request)}=`
  const pair = request.headers.cookie
    ?.split(';')
    .map((each) => each.trim())
    .find((each) => each.startsWith(prefix))
  return pair === undefined ? undefined : Buffer.from(pair.slice(prefix.length), 'base64url').toString()
}

/**
 * Keeps credentials in a cookie that no script can read, for `EventSource`, which cannot send an Authorization header.
 */
export async function cookieRoutes(app: FastifyInstance): Promise<void> {
  app.post('/cookie', {
    schema: {
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
        .header('set-cookie', cookie(request, value, maxAgeS))
        .header('cache-control', 'no-store')
        .code(204)
        .send(null)
    },
  })

  app.delete('/cookie', {
    schema: {
      summary: 'Delete the cookie',
      description: 'Available where `CAUSEWAY_AUTH_COOKIE` is set.',
      tags: ['operation'],
      response: { 204: { description: 'The cookie is deleted', type: 'null' }, ...problems('forbidden') },
    },
    handler: async (request, reply) => reply.header('set-cookie', expiredCookie(request)).code(204).send(null),
  })
}
