import { randomBytes } from 'node:crypto'
import type { CausewayError } from '../../errors.ts'
import type { Capabilities } from '../capabilities.ts'
import { addressOf, type Endpoint } from '../client/endpoint.ts'
import { isUnanswered } from '../client/failures.ts'
import type { Learnt } from './learnt.ts'
import { ProtocolChoice } from './protocol-choice.ts'
import { referredUrl } from './server-reference.ts'

/** One address of the broker, with the credentials that its URL has. */
export interface Server {
  /** Without credentials. */
  url: string
  username: string | undefined
  password: string | undefined
}

export interface Login {
  username: string
  password: string
}

export interface BrokerOptions {
  /** In the order in which they are tried; at least one. */
  servers: readonly Server[]
  /** `auto` is MQTT 5, and 3.1.1 where the broker refuses 5 or does not answer it. */
  protocol: 'auto' | '5' | '3.1.1'
  /** What every connection has in common. Called for each attempt, since files may have changed. */
  endpoint(): Omit<Endpoint, 'url' | 'username' | 'password'>
  events?: Partial<BrokerEvents>
}

export interface BrokerEvents {
  /** MQTT 3.1.1 is tried, because the broker at this address does not answer MQTT 5. */
  mqtt5Unanswered(address: string, cause: Error): void
  /** The broker names another server, which is tried if `isFollowed`. */
  referred(address: string, reference: string, isFollowed: boolean): void
  /** The next address is tried, because the one before failed. */
  failedOver(address: string, before: string): void
  /** Another client uses a client id of this bridge, which has changed its own because of that. */
  contested(clientId: string, newClientId: string): void
  /**
   * The broker sent a packet over the limit. It discards it with the session, and the readers get a `gap`; a durable
   * session it keeps, and sends the packet again.
   */
  tooLarge(clientId: string, cause: Error, isDurable: boolean): void
  /** A connection that stopped answering made the others be checked. */
  suspected(address: string): void
}

/** Where one attempt to connect goes. */
export interface Target {
  server: Server
  /** For people. */
  address: string
  endpoint: Endpoint
  version: 5 | 4
  protocol: ProtocolChoice
}

export const CONNECTION_ROLES = [
  'publish',
  'subscribe',
  'retained',
  'request',
  'session',
  'monitor',
  'presence',
  'cluster',
  'push',
] as const

export type ConnectionRole = (typeof CONNECTION_ROLES)[number]

/** `reconnecting` is the first attempt, at the start or after a loss, as long as its grace time has not passed. */
export const CONNECTION_STATES = ['connected', 'reconnecting', 'disconnected', 'closed'] as const

export type ConnectionState = (typeof CONNECTION_STATES)[number]

/** How a connection is, for people. */
export interface ConnectionReport {
  role: ConnectionRole
  /** It uses a caller's credentials. */
  isCallers: boolean
  clientId: string
  state: ConnectionState
  /** Where it is connected, or tries to connect. */
  address: string
  protocol: '5' | '3.1.1'
  /** Why it is not connected. */
  reason: string | undefined
  /** What the broker supports, as it said when it was last connected. */
  capabilities: Capabilities | undefined
}

/** What `Broker` asks of the connections. */
export interface Member {
  readonly report: ConnectionReport
  /** The broker is there again: tries to connect at once, if it waits for that after failing to reach it. */
  wake(): void
  /** The broker may have stopped answering: closes a connection on which it does not answer. */
  checkAlive(): void
}

/** Between two times that connections are woken or checked for the same reason. */
const QUIET_MS = 1000
const SUFFIX_BYTES = 4
/** After a trial that showed nothing. */
const TRIAL_AGAIN_MS = 60_000

interface Trial {
  /** Infinity while it is under way. */
  againAt: number
  done: Promise<void>
}

/**
 * What all connections of one bridge know together about the broker: which of its addresses they use, which protocol it
 * speaks there, whether it answers, and whether another client uses their client ids.
 */
export class Broker {
  readonly #options: BrokerOptions
  readonly #protocols = new Map<string, ProtocolChoice>()
  /** By URL: another address may be another broker. */
  readonly #learnt = new Map<string, Learnt>()
  /** Those under way, and those that showed nothing. */
  readonly #trials = new Map<string, Trial>()
  readonly #members = new Set<Member>()
  /** The members that are connected, and where. */
  readonly #connected = new Map<Member, Server>()
  #current: Server
  /** The server that the broker named, while it is tried or used. */
  #referred: Server | undefined
  #suffix = ''
  #wokeAt = -Infinity
  #checkedAt = -Infinity

  constructor(options: BrokerOptions) {
    this.#options = options
    this.#current = options.servers[0]!
  }

  get serverCount(): number {
    return this.#options.servers.length
  }

  /** The address that attempts to connect go to now, for people. */
  get address(): string {
    return addressOf(this.#current.url)
  }

  /** All addresses, for people, in the order in which they are tried. */
  get addresses(): string[] {
    return this.#options.servers.map(({ url }) => addressOf(url))
  }

  /** What is known of the broker at the current address. Whoever finds something out notes it here. */
  get learnt(): Learnt {
    const { url } = this.#current
    let learnt = this.#learnt.get(url)
    if (learnt === undefined) this.#learnt.set(url, (learnt = {}))
    return learnt
  }

  /**
   * Finds something out by a trial, once for all connections to the current address. While one tries it, the others
   * wait for that. A trial that showed nothing is not made again for a minute, whoever asks, unless it failed.
   * @param run rejects where it could not be brought to its end
   */
  async learn<Name extends keyof Learnt>(name: Name, run: () => Promise<Learnt[Name]>): Promise<void> {
    const { learnt } = this
    if (learnt[name] !== undefined) return
    const key = `${name} ${this.#current.url}`
    const before = this.#trials.get(key)
    if (before !== undefined && performance.now() < before.againAt) return before.done
    const trial: Trial = { againAt: Infinity, done: Promise.resolve() }
    trial.done = run().then(
      (found) => {
        trial.againAt = performance.now() + TRIAL_AGAIN_MS
        if (found !== undefined) learnt[name] = found
      },
      () => void this.#trials.delete(key),
    )
    this.#trials.set(key, trial)
    return trial.done
  }

  get reports(): ConnectionReport[] {
    return [...this.#members].map(({ report }) => report)
  }

  /** @param login a caller's credentials, in place of the bridge's own and of its certificate */
  target(login: Login | undefined): Target {
    const server = this.#current
    let protocol = this.#protocols.get(server.url)
    if (protocol === undefined) {
      this.#protocols.set(server.url, (protocol = new ProtocolChoice(this.#options.protocol)))
    }
    const { username, password, url } = server
    const endpoint = { ...this.#options.endpoint(), url, username, password, ...login }
    // A broker may identify a client by its certificate and ignore the password.
    if (login !== undefined) endpoint.cert = endpoint.key = undefined
    return { server, address: addressOf(url), endpoint, version: protocol.version, protocol }
  }

  join(member: Member): void {
    this.#members.add(member)
  }

  leave(member: Member): void {
    this.#members.delete(member)
    this.#connected.delete(member)
  }

  connected(member: Member, { server, protocol, version }: Target): void {
    protocol.accepted(version)
    this.#connected.set(member, server)
    if (performance.now() - this.#wokeAt < QUIET_MS) return
    this.#wokeAt = performance.now()
    for (const other of this.#members) if (other !== member) other.wake()
  }

  lost(member: Member): void {
    this.#connected.delete(member)
  }

  /**
   * An attempt failed. Where no connection is established to the same server, the next attempts go to the next one.
   * @returns whether there is another address to try at once
   */
  failed({ server, address }: Target): boolean {
    const { servers, events } = this.#options
    if (server !== this.#current) return true
    if ([...this.#connected.values()].includes(server)) return false
    const index = servers.indexOf(server)
    if (server === this.#referred) this.#referred = undefined
    else if (servers.length === 1) return false
    // Behind a server that was named by another one, the list goes on where it was.
    this.#current = servers[(index + 1) % servers.length]!
    events?.failedOver?.(this.address, address)
    return true
  }

  /**
   * The attempt failed because the broker does not speak MQTT 5, so the next one uses 3.1.1.
   * @param cause undefined where the broker closed the connection without a word
   */
  fallsBack({ protocol, version, address }: Target, cause: Error | undefined): boolean {
    const before = protocol.version
    if (!protocol.fallsBack(version, cause)) return false
    if (before === 5 && isUnanswered(cause)) this.#options.events?.mqtt5Unanswered?.(address, cause!)
    return true
  }

  /**
   * The broker said "use another server" or "server moved". Follows it once: not where that server names yet another.
   * @returns whether the next attempts go there
   */
  refer({ server, address }: Target, reference: string): boolean {
    const url = server === this.#referred ? undefined : referredUrl(reference, server.url)
    const isNew = url !== undefined && server === this.#current
    if (isNew) this.#current = this.#referred = { ...server, url }
    this.#options.events?.referred?.(address, reference, url !== undefined)
    return isNew || (url !== undefined && this.#current === this.#referred)
  }

  /** A connection stopped answering: the others may have as well, and would notice it only by their keep-alive. */
  suspect(member: Member, address: string): void {
    if (performance.now() - this.#checkedAt < QUIET_MS) return
    this.#checkedAt = performance.now()
    const others = [...this.#connected.keys()].filter((other) => other !== member)
    if (others.length === 0) return
    this.#options.events?.suspected?.(address)
    for (const other of others) other.checkAlive()
  }

  sentTooMuch(clientId: string, cause: Error, isDurable: boolean): void {
    this.#options.events?.tooLarge?.(clientId, cause, isDurable)
  }

  /** The client id to use in place of this one: itself, unless another client uses it too. */
  clientId(configured: string): string {
    return configured + this.#suffix
  }

  /**
   * Another client uses this client id. From now on, all client ids of this bridge get a suffix of its own.
   * @param clientId as it was in CONNECT
   */
  contested(configured: string, clientId: string): void {
    // Another connection has noticed it first.
    if (clientId !== this.clientId(configured)) return
    this.#suffix = `-${randomBytes(SUFFIX_BYTES).toString('hex')}`
    this.#options.events?.contested?.(clientId, this.clientId(configured))
  }
}

/** How the state of a connection came about, for the log. */
export interface StateChange {
  /** Where it is connected, or tries to connect. */
  address: string
  version: 5 | 4
  /** Why it is not connected. */
  cause?: CausewayError | undefined
}
