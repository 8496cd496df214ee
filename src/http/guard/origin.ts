import type { FastifyInstance, FastifyRequest } from 'fastify'
import { CausewayError } from '../../errors.ts'

/** Destinations that run what they get. A payload is what anybody published, so no page may run it. */
const SCRIPTS = new Set(['audioworklet', 'paintworklet', 'script', 'serviceworker', 'sharedworker', 'worker', 'xslt'])

const ADDRESS_OR_LOCALHOST = /^(|localhost|.+\.localhost|\d{1,3}(\.\d{1,3}){3}|\[[\da-f:.]+\])$/

/** The origins whose pages may call, besides the bridge's own. */
export class Origins {
  readonly all: ReadonlySet<string>
  readonly #hostNames: ReadonlySet<string>
  /** The latest host that was trusted. Most requests have the same one. */
  #trustedHost: string | undefined

  /** @param trusted origins, with commas */
  constructor(trusted: string | undefined) {
    this.all = new Set(trusted?.split(','))
    this.#hostNames = new Set([...this.all].map((origin) => new URL(origin).hostname))
  }

  /**
   * Whether a page of an origin that is not trusted sent the request. The user may not have wanted it: browsers add
   * cookies and remembered passwords by themselves and reach loopback addresses. They send Origin with every request
   * that could change something, and Sec-Fetch-Site with every request, over HTTPS and to this machine.
   */
  isForeign(request: FastifyRequest): boolean {
    const { origin, 'sec-fetch-site': site } = request.raw.headers
    if (origin === undefined) return site === 'cross-site' || site === 'same-site'
    if (this.all.has(origin)) return false
    // Proxies may change Host and end TLS, but do not change this header, and no page can set it.
    if (site === 'same-origin' || site === 'none') return false
    const { protocol } = request
    const host = request.host.toLowerCase()
    if (origin.toLowerCase() === `${protocol}://${host}`) return false
    // A proxy may have ended TLS, but not in front of an address or localhost. The other way round, whoever sits on the
    // network could write the pages of http://HOST, so they are foreign to https://HOST.
    const mayBeProxied = protocol === 'http' && !ADDRESS_OR_LOCALHOST.test(nameOf(host))
    return !mayBeProxied || origin.toLowerCase() !== `https://${host}`
  }

  /**
   * Whether the host is an IP address, localhost or the host of a trusted origin. An attacker's page can make its own
   * host name point to this machine after it was loaded (DNS rebinding). To the browser the bridge is then of the
   * page's own origin, and only Host, or `:authority` over HTTP/2, shows the attack.
   */
  isTrustedHost({ raw: { headers } }: FastifyRequest): boolean {
    const host = headers.host ?? headers[':authority']?.toString() ?? ''
    if (host === this.#trustedHost) return true
    const name = nameOf(host.toLowerCase())
    const isTrusted = ADDRESS_OR_LOCALHOST.test(name) || this.#hostNames.has(name)
    if (isTrusted) this.#trustedHost = host
    return isTrusted
  }
}

/** Whether the request has a header from which `isForeign` can tell its origin. */
export function hasOriginHeaders({ headers }: FastifyRequest): boolean {
  return headers.origin !== undefined || headers['sec-fetch-site'] !== undefined
}

/**
 * Refuses requests that a browser sends for pages of other origins, and those whose answer the page could not read or
 * would run. An `<img>` that opens a session takes its messages all the same. The documentation and the page at `/` are
 * for everybody: links to them may be anywhere, and their own files are scripts.
 */
export function refuseForeignPages(app: FastifyInstance, origins: Origins): void {
  app.addHook('onRequest', (request, _reply, done) => {
    const { headers, url } = request.raw
    // No browser, or one that is too old to say more.
    if (headers.origin === undefined && headers['sec-fetch-site'] === undefined) {
      if (headers['service-worker'] === undefined) return done()
    }
    if (isPage(url!)) return done()
    if (origins.isForeign(request)) {
      const whose = headers.origin ?? 'other origins'
      return done(
        new CausewayError(
          'forbidden',
          `Pages of ${whose} may not call; CAUSEWAY_CORS_ORIGINS lists the origins that may`,
        ),
      )
    }
    const destination = headers['sec-fetch-dest']?.toString()
    if (headers['service-worker'] !== undefined || SCRIPTS.has(destination ?? '')) {
      return done(new CausewayError('forbidden', 'Answers are data and must not be run as a script'))
    }
    if (destination !== undefined && destination !== 'empty' && request.routeOptions.config.stream) {
      return done(
        new CausewayError('forbidden', `A stream is for EventSource and fetch; ${destination} cannot read one`),
      )
    }
    done()
  })
}

function nameOf(host: string): string {
  return host.replace(/:\d*$/, '')
}

function isPage(url: string): boolean {
  return /^\/(docs([/?]|$)|console\/|\?|$)/.test(url)
}
