import { createHmac, randomBytes } from 'node:crypto'
import type { Admission, Authenticator } from '../auth/authenticator.ts'
import { type Login, loginOf, nameOf, refusalOf } from '../auth/broker/login.ts'
import { eitherScheme, missing } from '../auth/challenge.ts'
import type { Credentials } from '../auth/credentials.ts'
import type { Identity } from '../auth/identity.ts'
import type { Refusals } from '../auth/broker/refusals.ts'
import type { StateLog } from './state-log.ts'
import { CausewayError } from '../errors.ts'
import type { Link } from './link.ts'

export interface CallerLinksOptions {
  createLink(login: Login, log: StateLog): Link
  refusals: Refusals
  /** Most links. */
  max: number
  /** How long a link stays behind its last request. */
  idleMs: number
  /** User name that goes with a bearer token as its password. */
  bearerUsername: string
}

/** One caller's link, and how many requests have it. */
interface Entry {
  key: string
  link: Link
  identity: Identity | undefined
  admitted: Promise<Identity> | undefined
  revoked: AbortController
  holders: number
  idle: NodeJS.Timeout | undefined
  /** Why its first attempt to connect failed. */
  failure: CausewayError | undefined
}

/** Credentials that are tried at the broker at once. */
const OPENING_MAX = 16

/** A link for each caller, opened with the caller's own credentials: the broker says who they are and what they may do. */
export class CallerLinks implements Authenticator {
  readonly #options: CallerLinksOptions
  readonly #secret = randomBytes(32)
  /** By a digest of the credentials, least recently used first. */
  readonly #entries = new Map<string, Entry>()
  readonly #byIdentity = new WeakMap<Identity, Link>()

  constructor(options: CallerLinksOptions) {
    this.#options = options
  }

  get all(): readonly Link[] {
    return this.#open.map(({ link }) => link)
  }

  of(identity: Identity): Link {
    return this.#byIdentity.get(identity)!
  }

  async authenticate(credentials: Credentials | undefined, address: string): Promise<Admission> {
    if (credentials === undefined) throw missing(eitherScheme)
    const login = loginOf(credentials, this.#options.bearerUsername)
    const key = createHmac('sha256', this.#secret)
      .update(JSON.stringify([login.username, login.password]))
      .digest('base64')
    const entry = this.#entries.get(key) ?? this.#create(key, login, address)
    entry.holders += 1
    clearTimeout(entry.idle)
    entry.admitted ??= this.#admit(entry, login, address)
    const release = (): void => this.#release(entry)
    try {
      return { identity: await entry.admitted, release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** Ends every link, and with it its streams. */
  async close(): Promise<void> {
    const entries = [...this.#entries.values()]
    this.#entries.clear()
    await Promise.all(entries.map((entry) => this.#end(entry)))
  }

  get #open(): Entry[] {
    return [...this.#entries.values()].filter(({ identity }) => identity !== undefined)
  }

  #create(key: string, login: Login, address: string): Entry {
    const { refusals, createLink } = this.#options
    refusals.check(key, address)
    if (this.#entries.size - this.#open.length >= OPENING_MAX) {
      throw new CausewayError('too-many-callers', 'Too many callers are being let in at once', { retryAfter: 1 })
    }
    const link = createLink(login, {
      state: (_name, state, cause) => state === 'disconnected' && this.#failed(entry, cause),
    })
    const entry: Entry = {
      key,
      link,
      identity: undefined,
      admitted: undefined,
      revoked: new AbortController(),
      holders: 0,
      idle: undefined,
      failure: undefined,
    }
    this.#entries.set(key, entry)
    return entry
  }

  async #admit(entry: Entry, login: Login, address: string): Promise<Identity> {
    try {
      await entry.link.attempted()
      if (entry.failure !== undefined) throw refusalOf(entry.failure) ?? entry.failure
      const name = await nameOf(login)
      if (this.#open.length >= this.#options.max && !this.#evict()) throw this.#tooMany()
      // The broker alone decides what it may do.
      const identity: Identity = {
        name,
        mayPublish: () => true,
        maySubscribe: () => true,
        revoked: entry.revoked.signal,
      }
      this.#byIdentity.set(identity, entry.link)
      entry.identity = identity
      return identity
    } catch (error) {
      if (refusalOf(entry.failure) !== undefined) {
        this.#options.refusals.remember(entry.key, address, error as CausewayError)
      }
      void this.#end(entry)
      throw error
    }
  }

  #failed(entry: Entry, cause: CausewayError | undefined): void {
    entry.failure ??= cause
    // Credentials that were good are so no more.
    if (entry.identity !== undefined && refusalOf(cause) !== undefined) void this.#end(entry)
  }

  #release(entry: Entry): void {
    entry.holders -= 1
    if (entry.holders > 0 || this.#entries.get(entry.key) !== entry) return
    this.#entries.delete(entry.key)
    this.#entries.set(entry.key, entry)
    this.#wait(entry)
  }

  #wait(entry: Entry): void {
    const { link } = entry
    entry.idle = setTimeout(() => {
      // Callers who left do not take back what they sent.
      if (link.publishInFlight + link.requestsWaiting > 0) this.#wait(entry)
      else void this.#end(entry)
    }, this.#options.idleMs)
  }

  /** Makes room at the cost of the link that has been idle for longest. */
  #evict(): boolean {
    const idle = this.#open.find(({ holders }) => holders === 0)
    if (idle !== undefined) void this.#end(idle)
    return idle !== undefined
  }

  async #end(entry: Entry): Promise<void> {
    clearTimeout(entry.idle)
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key)
    entry.revoked.abort()
    await entry.link.close()
  }

  #tooMany(): CausewayError {
    return new CausewayError(
      'too-many-callers',
      `${this.#open.length} callers have connections of their own, and CAUSEWAY_LINK_MAX allows ${this.#options.max}`,
      { retryAfter: 5 },
    )
  }
}
