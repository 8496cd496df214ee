import type { FastifyRequest } from 'fastify'

/**
 * Whether a page of another origin sent the request, which a browser says of every request that could do harm. It is
 * then nobody's own wish: browsers add cookies, remembered passwords and the way to a loopback address by themselves.
 * @param trusted origins that are as good as our own
 */
export function isForeign({ headers, host }: FastifyRequest, trusted: ReadonlySet<string>): boolean {
  const { origin, 'sec-fetch-site': site } = headers
  if (origin === undefined || trusted.has(origin)) return false
  // Proxies change Host; this no page can set and no proxy has a reason to.
  if (site === 'same-origin' || site === 'none') return false
  return !URL.canParse(origin) || new URL(origin).host !== host
}

/** Whether a browser says where the request comes from. */
export function saysOrigin({ headers }: FastifyRequest): boolean {
  return headers.origin !== undefined || headers['sec-fetch-site'] !== undefined
}
