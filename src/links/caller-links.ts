import { createHmac, randomBytes } from 'node:crypto'
import type { Admission, Authenticator } from '../auth/authenticator.ts'
import { type Login, loginOf, nameOf, refusalOf } from '../auth/broker/login.ts'
import type { Refusals } from '../auth/broker/refusals.ts'
import { eitherScheme, missing } from '../auth/challenge.ts'
import type { Credentials } from '../auth/credentials.ts'
import type { Identity } from '../auth/identity.ts'
import { networkOf } from '../auth/network.ts'
import { CausewayError } from '../errors.ts'
import { isClosedUnanswered } from '../mqtt/client/failures.ts'
import type { ConnectionState } from '../mqtt/connection.ts'
import type { Monitor } from '../mqtt/monitor.ts'
import type { Link } from './link.ts'
import type { Links } from './shared-link.ts'
import type { StateLog } from './state-log.ts'

export interface CallerLinksOptions {
  createLink(login: Login, log: StateLog): Link
  /** Says whether the broker is there while no caller has a link. */
  monitor: Monitor
  refusals: Refusals
  /** Most links. */
  max: number
  /** How long a link is kept after its last request. */
  idleMs: number
  /** User name that is sent to the broker with a bearer token as the password. */
  bearerUsername: string
}

/** One caller's link, and who uses it. */
interface CallerLink {
  key: string
  link: Link
  /** The network that the credentials came from first. */
  network: string
  /** Set once the broker has accepted the credentials. */
  identity: Identity | undefined
  authenticated: Promise<Identity> | undefined
  /** Aborted when the link is closed. */
  revoked: AbortController
  /** Requests that use the link now. */
  requests: number
  idle: NodeJS.Timeout | undefined
  /** Why its first attempt to connect failed. */
  failure: CausewayError | undefined
}

/** Most callers whose credentials are tried at the broker at the same time: each attempt is a connection to it. */
const CONNECTING_MAX = 64
/** The same of one address, or IPv6 /64. Legitimate clients behind one address rarely begin at the same moment. */
const CONNECTING_MAX_PER_ADDRESS = 8

/**
 * A link for each caller, connected with the caller's own credentials. The broker decides who may connect, and what
 * they may do.
 */
export class CallerLinks implements Links, Authenticator {
  readonly #options: CallerLinksOptions
  readonly #secret = randomBytes(32)
  /** By a digest of the credentials, least recently used first. */
  readonly #links = new Map<string, CallerLink>()
  readonly #byIdentity = new WeakMap<Identity, Link>()

  constructor(options: CallerLinksOptions) {
    this.#options = options
  }

  get all(): readonly Link[] {
    return this.#accepted.map(({ link }) => link)
  }

  /** The monitor tries only now and then to reach the broker, so callers' links that lost it say so first. */
  get isReachable(): boolean {
    const links = this.all
    return this.#options.monitor.isReachable && (links.length === 0 || links.some((link) => link.isReachable))
  }

  get connections(): { role: string; state: ConnectionState }[] {
    return [{ role: 'monitor', state: this.#options.monitor.state }]
  }

  linkOf(identity: Identity): Link {
    return this.#byIdentity.get(identity)!
  }

  attempted(): Promise<void> {
    return this.#options.monitor.attempted()
  }

  async authenticate(credentials: Credentials | undefined, address: string): Promise<Admission> {
    if (credentials === undefined) throw missing(eitherScheme)
    const login = loginOf(credentials, this.#options.bearerUsername)
    const key = createHmac('sha256', this.#secret)
      .update(JSON.stringify([login.username, login.password]))
      .digest('base64')
    const caller = this.#links.get(key) ?? this.#create(key, login, address)
    caller.requests += 1
    clearTimeout(caller.idle)
    caller.authenticated ??= this.#authenticate(caller, login, address)
    const release = (): void => this.#release(caller)
    try {
      return { identity: await caller.authenticated, release }
    } catch (error) {
      release()
      throw error
    }
  }

  async close(): Promise<void> {
    const callers = [...this.#links.values()]
    this.#links.clear()
    await Promise.all([...callers.map((caller) => this.#end(caller)), this.#options.monitor.close()])
  }

  /** Those whose credentials the broker has accepted. */
  get #accepted(): CallerLink[] {
    return [...this.#links.values()].filter(({ identity }) => identity !== undefined)
  }

  #create(key: string, login: Login, address: string): CallerLink {
    const { refusals, createLink } = this.#options
    refusals.check(key, address)
    const network = networkOf(address)
    this.#checkConnecting(network)
    const link = createLink(login, {
      changed: (_connection, state, { cause }) => state === 'disconnected' && this.#disconnected(caller, cause),
    })
    const caller: CallerLink = {
      key,
      link,
      network,
      identity: undefined,
      authenticated: undefined,
      revoked: new AbortController(),
      requests: 0,
      idle: undefined,
      failure: undefined,
    }
    this.#links.set(key, caller)
    return caller
  }

  /**
   * Refuses to try more credentials at the same time. An address may not have more attempts than there are places left
   * for all others, so that wrong credentials from a few addresses cannot keep good callers out.
   */
  #checkConnecting(network: string): void {
    const connecting = [...this.#links.values()].filter(({ identity }) => identity === undefined)
    const own = connecting.filter((caller) => caller.network === network).length
    const free = CONNECTING_MAX - connecting.length
    if (own < Math.min(CONNECTING_MAX_PER_ADDRESS, free)) return
    throw new CausewayError(
      'too-many-callers',
      `${own} credentials from this address and ${connecting.length} in all are being tried at the broker; ` +
        'no more are at the same time',
      { retryAfter: 1 },
    )
  }

  async #authenticate(caller: CallerLink, login: Login, address: string): Promise<Identity> {
    try {
      await caller.link.attempted()
      if (caller.failure !== undefined) throw refusalOf(caller.failure) ?? caller.failure
      const name = await nameOf(login)
      if (this.#accepted.length >= this.#options.max && !this.#endLeastRecentlyUsed()) throw this.#tooMany()
      const identity: Identity = {
        name,
        // The broker has the rules, and refuses what they do not allow.
        mayPublish: () => true,
        maySubscribe: () => true,
        revoked: caller.revoked.signal,
      }
      this.#byIdentity.set(identity, caller.link)
      caller.identity = identity
      return identity
    } catch (error) {
      // rumqttd closes the connection over a wrong password, without a word. While it answers others, that counts as a
      // guess too, though the caller gets a 503: it may have been closed for another reason.
      const isClosed = isClosedUnanswered(caller.failure?.cause) && this.#options.monitor.state === 'connected'
      if (isClosed || refusalOf(caller.failure) !== undefined) {
        this.#options.refusals.remember(caller.key, address, error as CausewayError)
      }
      void this.#end(caller)
      throw error
    }
  }

  #disconnected(caller: CallerLink, cause: CausewayError | undefined): void {
    caller.failure ??= cause
    // The broker accepted these credentials before and refuses them now.
    if (caller.identity !== undefined && refusalOf(cause) !== undefined) void this.#end(caller)
  }

  #release(caller: CallerLink): void {
    caller.requests -= 1
    if (caller.requests > 0 || this.#links.get(caller.key) !== caller) return
    // Moves it to the end of the map: it is the most recently used now.
    this.#links.delete(caller.key)
    this.#links.set(caller.key, caller)
    this.#endWhenIdle(caller)
  }

  #endWhenIdle(caller: CallerLink): void {
    const { link } = caller
    caller.idle = setTimeout(() => {
      // What a caller published stays in flight when its request is gone, and is not cut off.
      if (link.publisher.inFlight + link.requestsWaiting > 0) this.#endWhenIdle(caller)
      else void this.#end(caller)
    }, this.#options.idleMs)
  }

  /** Ends the link that no request has used for the longest time. Returns whether there was one. */
  #endLeastRecentlyUsed(): boolean {
    const unused = this.#accepted.find(({ requests }) => requests === 0)
    if (unused !== undefined) void this.#end(unused)
    return unused !== undefined
  }

  async #end(caller: CallerLink): Promise<void> {
    clearTimeout(caller.idle)
    if (this.#links.get(caller.key) === caller) this.#links.delete(caller.key)
    caller.revoked.abort()
    await caller.link.close()
  }

  #tooMany(): CausewayError {
    return new CausewayError(
      'too-many-callers',
      `${this.#accepted.length} callers have connections of their own; CAUSEWAY_LINK_MAX allows no more`,
      { retryAfter: 5 },
    )
  }
}
