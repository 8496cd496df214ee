import type { FastifyInstance, FastifyRequest } from 'fastify'
import { CausewayError } from '../../errors.ts'
import { problems } from '../message/problem-responses.ts'

/** Browsers keep no longer ones. */
const MAX_BYTES = 3900
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/

/** Off loopback the name itself makes browsers refuse the cookie from any other host, and over plain HTTP. */
function nameFor({ hostname }: FastifyRequest): string {
  return LOOPBACK.test(hostname) ? 'causeway' : '__Host-causeway'
}

function cookie(request: FastifyRequest, value: string, maxAgeS: number | undefined): string {
  const name = nameFor(request)
  const secure = name.startsWith('__Host-') || request.protocol === 'https' ? '; Secure' : ''
  return `${name}=${value}; Path=/; HttpOnly; SameSite=Strict${secure}${maxAgeS === undefined ? '' : `; Max-Age=${maxAgeS}`}`
}

/** What ends the cookie. */
export function noCookie(request: FastifyRequest): string {
  return cookie(request, '', 0)
}

/** The Authorization field that the request's cookie stands for. */
export function authorizationOfCookie(request: FastifyRequest): string | undefined {
  const prefix = `${nameFor(request)}=`
  const pair = request.headers.cookie
    ?.split(';')
    .map((each) => each.trim())
    .find((each) => each.startsWith(prefix))
  return pair === undefined ? undefined : Buffer.from(pair.slice(prefix.length), 'base64url').toString()
}

/** For `EventSource`, which sends no header of its own: credentials in a cookie that no script can read. */
export async function cookieRoutes(app: FastifyInstance): Promise<void> {
  app.post('/cookie', {
    schema: {
      summary: 'Keep the credentials of this request in a cookie',
      description:
        'Where `CAUSEWAY_AUTH_COOKIE` is set. For browsers, whose `EventSource` sends no Authorization header. No script can read the cookie, only pages of this site send it, and it ends with its credentials.',
      tags: ['operation'],
      response: {
        204: { description: 'The cookie is set', type: 'null' },
        ...problems('invalid-request', 'forbidden'),
      },
    },
    handler: async (request, reply) => {
      const { authorization } = request.headers
      if (authorization === undefined) {
        throw new CausewayError('invalid-request', 'The credentials to keep are to be sent in the Authorization header')
      }
      const value = Buffer.from(authorization).toString('base64url')
      if (value.length > MAX_BYTES) {
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
      summary: 'End the cookie',
      description: 'Where `CAUSEWAY_AUTH_COOKIE` is set.',
      tags: ['operation'],
      response: { 204: { description: 'The cookie is gone', type: 'null' }, ...problems('forbidden') },
    },
    handler: async (request, reply) => reply.header('set-cookie', noCookie(request)).code(204).send(null),
  })
}
