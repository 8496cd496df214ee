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

const ADDRESS_OR_LOCALHOST = /^(|localhost|.+\.localhost|\d{1,3}(\.\d{1,3}){3}|\[[\da-f:.]+\])$/

/**
 * Whether the request came under a name that nobody else can give this machine. A page can have the name of its own
 * site point here once it runs, and is then of the same origin to its browser (DNS rebinding): only `Host` tells.
 * @param trusted origins whose names are as good
 */
export function isOwnName({ headers: { host = '' } }: FastifyRequest, trusted: ReadonlySet<string>): boolean {
  const name = host.replace(/:\d*$/, '').toLowerCase()
  return ADDRESS_OR_LOCALHOST.test(name) || [...trusted].some((origin) => new URL(origin).hostname === name)
}
