import type { FastifyRequest } from 'fastify'

/**
 * Whether a page of another origin sent the request. The user may not have wanted it: browsers add cookies and
 * remembered passwords by themselves and reach loopback addresses. They send Origin with every request that could do
 * harm.
 * @param trusted origins that are allowed to call
 */
export function isCrossOrigin({ headers, host }: FastifyRequest, trusted: ReadonlySet<string>): boolean {
  const { origin, 'sec-fetch-site': site } = headers
  if (origin === undefined || trusted.has(origin)) return false
  // Proxies may change Host, but not this header, and no page can set it.
  if (site === 'same-origin' || site === 'none') return false
  return !URL.canParse(origin) || new URL(origin).host !== host
}

/** Whether the request has a header from which `isCrossOrigin` can tell its origin. */
export function hasOriginHeaders({ headers }: FastifyRequest): boolean {
  return headers.origin !== undefined || headers['sec-fetch-site'] !== undefined
}

const ADDRESS_OR_LOCALHOST = /^(|localhost|.+\.localhost|\d{1,3}(\.\d{1,3}){3}|\[[\da-f:.]+\])$/

/**
 * Whether Host is an IP address, localhost or the host of a trusted origin. An attacker's page can make its own host
 * name point to this machine after it was loaded (DNS rebinding). To the browser the bridge is then of the page's
 * own origin, and only Host shows the attack.
 */
export function hasTrustedHost({ headers: { host = '' } }: FastifyRequest, trusted: ReadonlySet<string>): boolean {
  const name = host.replace(/:\d*$/, '').toLowerCase()
  return ADDRESS_OR_LOCALHOST.test(name) || [...trusted].some((origin) => new URL(origin).hostname === name)
}
