import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import type { MemoryShare } from '../../memory/account.ts'
import type { QoS } from '../message.ts'
import { NO_MATCHING_SUBSCRIBERS, QUOTA_EXCEEDED, SUCCESS } from '../reason-codes.ts'
import { parseShare } from '../topic.ts'
import { type BrokerMessage, brokerMessage, KeptMessages } from './broker-message.ts'
import {
  ClientConnection,
  type ConnectionHost,
  type SessionRequest,
  type SubscribeRequest,
  type Will,
} from './client-connection.ts'
import { MqttSession } from './mqtt-session.ts'
import { RetainedMessages } from './retained-messages.ts'
import { Subscriptions } from './subscriptions.ts'

const SERVER_SHUTTING_DOWN = 0x8b
const SESSION_TAKEN_OVER = 0x8e
const TIMER_MAX_MS = 2 ** 31 - 1

interface Client {
  session: MqttSession
  connection: ClientConnection | undefined
  /** Ends the session while the client is away. */
  expiry?: NodeJS.Timeout
  /** To be published unless the client is back in time. */
  will?: { message: BrokerMessage; timer: NodeJS.Timeout } | undefined
}

/**
 * The clients of the embedded broker: who is connected, whose session lives, who gets what. What is kept for them is
 * taken from one share of the account of memory. Where that is used up, the session that holds most is ended: its
 * client sees "no session present" when it connects again, and knows that messages are lost.
 */
export class Clients implements ConnectionHost {
  readonly maxPacketBytes: number
  readonly #memory: MemoryShare
  readonly #kept: KeptMessages
  readonly #retained: RetainedMessages
  readonly #subscriptions = new Subscriptions()
  readonly #connections = new Set<ClientConnection>()
  readonly #byId = new Map<string, Client>()
  readonly #byConnection = new Map<ClientConnection, Client>()

  constructor(memory: MemoryShare, maxPacketBytes: number) {
    this.maxPacketBytes = maxPacketBytes
    this.#memory = memory
    this.#kept = new KeptMessages(memory.hold('broker'))
    this.#retained = new RetainedMessages(this.#kept)
    const version = { topic: '$SYS/broker/version', payload: Buffer.from('Causeway, embedded') }
    this.#retained.set(brokerMessage({ ...version, qos: 0, retain: true }))
  }

  accept(socket: Socket): void {
    const connection = new ClientConnection(socket, this)
    this.#connections.add(connection)
    socket.once('close', () => this.#connections.delete(connection))
  }

  /** Disconnects everybody and forgets everything. */
  end(): void {
    for (const connection of this.#connections) connection.end(SERVER_SHUTTING_DOWN, false)
    for (const client of this.#byId.values()) {
      client.will = undefined
      this.#end(client)
    }
    this.#retained.clear()
  }

  open(
    { clientId, cleanStart }: SessionRequest,
    connection: ClientConnection,
  ): { session: MqttSession; isPresent: boolean } | undefined {
    // The session ends here if it has no expiry.
    this.#byId.get(clientId)?.connection?.end(SESSION_TAKEN_OVER)
    let client = this.#byId.get(clientId)
    if (client !== undefined && cleanStart) {
      this.#end(client)
      client = undefined
    }
    const isPresent = client !== undefined
    if (client === undefined) {
      const session = MqttSession.begin(clientId, this.#memory.hold('broker'), this.#kept, () => this.#makeRoom())
      if (session === undefined) return undefined
      this.#byId.set(clientId, (client = { session, connection }))
    }
    clearTimeout(client.expiry)
    clearTimeout(client.will?.timer)
    client.will = undefined
    client.connection = connection
    this.#byConnection.set(connection, client)
    return { session: client.session, isPresent }
  }

  closed(connection: ClientConnection, expiryS: number, will: Will | undefined): void {
    const client = this.#byConnection.get(connection)
    if (client === undefined) return
    this.#byConnection.delete(connection)
    client.connection = undefined
    client.session.detach()
    if (will !== undefined) {
      const { message, delayS } = will
      const timer = later(delayS, () => {
        client.will = undefined
        this.publish(message, undefined)
      })
      client.will = { message, timer }
    }
    if (expiryS === 0) this.#end(client)
    else if (expiryS < Infinity) client.expiry = later(expiryS, () => this.#end(client))
    // A will without delay does not wait for a turn of the event loop.
    if (will?.delayS === 0) this.#publishWill(client)
  }

  newClientId(): string {
    return `auto-${randomBytes(8).toString('hex')}`
  }

  publish(message: BrokerMessage, from: MqttSession | undefined): number {
    if (message.retain && !this.#retained.set(message)) return QUOTA_EXCEEDED
    return this.#subscriptions.deliver(message, from) ? SUCCESS : NO_MATCHING_SUBSCRIBERS
  }

  subscribe(session: MqttSession, requests: readonly SubscribeRequest[]): number[] {
    return requests.map((request) => {
      const { filter, qos, noLocal, retainAsPublished, identifier } = request
      const subscription = { session, filter, qos, noLocal, retainAsPublished, identifier }
      request.isKnown = session.subscriptions.has(filter)
      if (!session.subscribe(subscription)) return QUOTA_EXCEEDED
      this.#subscriptions.add(subscription)
      return qos
    })
  }

  unsubscribe(session: MqttSession, filter: string): boolean {
    const subscription = session.unsubscribe(filter)
    if (subscription !== undefined) this.#subscriptions.remove(subscription)
    return subscription !== undefined
  }

  sendRetained(session: MqttSession, requests: readonly SubscribeRequest[]): void {
    for (const { filter, qos, retainHandling, identifier, isKnown } of requests) {
      if (retainHandling === 2 || (retainHandling === 1 && isKnown) || parseShare(filter) !== undefined) continue
      for (const message of this.#retained.matching(filter)) {
        session.deliver({
          message,
          qos: Math.min(qos, message.qos) as QoS,
          retain: true,
          identifiers: identifier === undefined ? [] : [identifier],
        })
      }
    }
  }

  /** Ends the session that holds most. Returns whether there was one. */
  #makeRoom(): boolean {
    let largest: Client | undefined
    for (const client of this.#byId.values()) {
      if (client.session.heldBytes > (largest?.session.heldBytes ?? 0)) largest = client
    }
    if (largest === undefined) return false
    largest.connection?.end(QUOTA_EXCEEDED)
    this.#end(largest)
    return true
  }

  #end(client: Client): void {
    const { session } = client
    if (this.#byId.get(session.clientId) !== client) return
    this.#byId.delete(session.clientId)
    clearTimeout(client.expiry)
    for (const subscription of session.subscriptions.values()) this.#subscriptions.remove(subscription)
    session.end()
    // The will does not wait longer than the session lives [MQTT-3.1.2-8].
    this.#publishWill(client)
  }

  #publishWill(client: Client): void {
    if (client.will === undefined) return
    const { message, timer } = client.will
    clearTimeout(timer)
    client.will = undefined
    this.publish(message, undefined)
  }
}

function later(seconds: number, run: () => void): NodeJS.Timeout {
  return setTimeout(run, Math.min(seconds * 1000, TIMER_MAX_MS)).unref()
}
