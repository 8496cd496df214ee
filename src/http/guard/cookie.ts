import type { FastifyRequest } from 'fastify'

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/

/**
 * With `__Host-` browsers take the cookie only over HTTPS and send it to this host only. On loopback there is usually
 * no HTTPS, so the name has no prefix there.
 */
function nameFor({ hostname }: FastifyRequest): string {
  return LOOPBACK.test(hostname) ? 'causeway' : '__Host-causeway'
}

/**
 * The Set-Cookie value of the cookie that holds a caller's credentials.
 * @param value its Authorization header in base64url
 * @param maxAgeS undefined for a cookie that ends with the browser
 */
export function credentialCookie(request: FastifyRequest, value: string, maxAgeS: number | undefined): string {
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
  return credentialCookie(request, '', 0)
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
