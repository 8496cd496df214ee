import { connect, type MqttClient, type Packet, Store, UniqueMessageIdProvider } from 'mqtt'
import { CausewayError } from '../../errors.ts'
import type { Capabilities } from '../capabilities.ts'
import { clientOptions } from './client-options.ts'
import type { Endpoint, Will } from './endpoint.ts'
import type { Message, QoS } from '../message.ts'
import { PacketBuffer } from './packet-buffer.ts'
import { type Acknowledgement, capabilitiesOf, messageOf, publishPacket, subscriptionIdentifiersOf } from './packets.ts'
import { FIRST_REFUSAL, refusal } from '../reason-codes.ts'
import type { Receipt } from '../session/unacknowledged.ts'

export interface NetworkConnectionOptions {
  endpoint: Endpoint
  protocol: 5 | 4
  clientId: string
  clean: boolean
  will?: Will | undefined
  session: SessionState
  durable?: DurableOptions | undefined
}

/** What makes the broker's session the only store of messages that are not done with. */
export interface DurableOptions {
  /** How long the broker keeps the session, from each disconnection on, in seconds. Over MQTT 3.1.1 the broker decides. */
  expiryS: number
  /** QoS 1 messages the broker may send unacknowledged; not every broker keeps to it. */
  receiveMaximum: number
}

export interface SubscribeOptions {
  /** Comes back with each of the subscription's messages, where the broker takes identifiers. */
  identifier: number | undefined
  /** When retained messages are sent; `if-new` is where the broker has no such subscription yet. */
  retained: keyof typeof RETAIN_HANDLING
}

export interface NetworkConnectionHandlers {
  /** CONNACK accepted the connection. Called before any packet behind it. */
  opened(capabilities: Capabilities, sessionPresent: boolean): void
  /** Called once, last. Without a cause the broker closed it with no word, or we did. */
  closed(cause: (Error & { code?: unknown }) | undefined): void
  acknowledged(packet: Acknowledgement): void
  /** `receipt` comes with QoS 1 messages of durable sessions, to `acknowledge`; all others are acknowledged already. */
  message(message: Message, subscriptionIdentifiers: readonly number[], receipt?: Receipt): void
  /** All packets of the last turn of the loop are with the socket. */
  flushed(): void
  drained(): void
}

/** The client's part of the MQTT session: QoS 2 messages between PUBREC and PUBREL. It outlives network connections. */
export class SessionState extends Store {
  constructor() {
    super({ clean: false })
  }
}

/**
 * PINGRESP may overtake messages that a broker is still handing on within itself: Aedes does so turn by turn, clustered ones
 * between processes. After so many round trips they are taken to have come.
 */
export const SETTLING_ROUND_TRIPS = 3
/** MQTT 5 section 3.8.3.1. */
const RETAIN_HANDLING = { always: 0, 'if-new': 1, never: 2 } as const
const DISCONNECT_TIMEOUT_MS = 500

/**
 * One network connection to the broker (MQTT 5 section 4.2), from CONNECT to its end; it never reconnects.
 * Publishes and their acknowledgements pass straight through: which of them are in flight is the caller's to keep.
 */
export class NetworkConnection {
  readonly #client: MqttClient
  readonly #handlers: NetworkConnectionHandlers
  readonly #protocol: 5 | 4
  readonly #pings: { resolve: () => void; reject: (error: CausewayError) => void }[] = []
  /** Messages that MQTT.js will hand on again. */
  readonly #handedOn = new WeakSet<Packet>()
  readonly #packets: PacketBuffer
  #corked = false
  #opened = false
  /** PUBLISH and PUBREL packets so far: each may make room in the broker's window once it is answered. */
  arrived = 0
  /** Whether the broker sent anything behind CONNACK but DISCONNECT. */
  productive = false
  /** Reason code of the broker's DISCONNECT: to one who shares a client id with another, coming back at once would be war. */
  dismissal: number | undefined

  constructor(options: NetworkConnectionOptions, handlers: NetworkConnectionHandlers) {
    this.#protocol = options.protocol
    this.#handlers = handlers
    this.#packets = new PacketBuffer(options.protocol)
    const client = (this.#client = connect(options.endpoint.url, {
      ...clientOptions(options),
      incomingStore: options.session,
      messageIdProvider: new UniqueMessageIdProvider(),
    }))
    let cause: Error | undefined
    client.on('packetreceive', (packet) => {
      if (packet.cmd !== 'connack') return this.#received(packet, options.durable !== undefined)
      // MQTT.js emits `connect` some turns later, behind the first messages; at the next tick it is ready too.
      process.nextTick(() => {
        if (!client.connected) return
        if ('setNoDelay' in client.stream) (client.stream as { setNoDelay(on: boolean): void }).setNoDelay(true)
        client.stream.on('drain', handlers.drained)
        this.#opened = true
        handlers.opened(capabilitiesOf(packet, options.protocol), packet.sessionPresent)
      })
    })
    client.on('message', (_topic, _payload, packet) => {
      if (this.#opened && !this.#handedOn.delete(packet)) {
        handlers.message(messageOf(packet), subscriptionIdentifiersOf(packet))
      }
    })
    client.on('error', (error) => {
      cause ??= error
      this.destroy()
    })
    client.once('close', () => {
      // Packets that were parsed already may follow.
      this.#opened = false
      for (const { reject } of this.#pings.splice(0)) reject(connectionLost(cause))
      handlers.closed(cause)
    })
  }

  /** False while the socket still holds earlier packets; `drained` follows. */
  get writable(): boolean {
    return !this.#client.stream.writableNeedDrain
  }

  publish(message: Message, messageId: number, dup: boolean): void {
    this.#write(publishPacket(message, messageId, dup))
  }

  /** Sends PUBREL. */
  release(messageId: number): void {
    this.#write({ cmd: 'pubrel', messageId, reasonCode: 0 })
  }

  /** Sends PUBACK. Those of one connection are to leave in the order in which its messages came [MQTT-4.6.0-2]. */
  acknowledge(messageId: number): void {
    this.#write({ cmd: 'puback', messageId, reasonCode: 0 })
  }

  /** The granted QoS, after SUBACK. MQTT 3.1.1 sends the retained messages whether they are asked for or not. */
  subscribe(filter: string, qos: QoS, { identifier, retained }: SubscribeOptions): Promise<QoS> {
    this.#cork()
    const properties = identifier === undefined ? undefined : { subscriptionIdentifier: identifier }
    return new Promise((resolve, reject) => {
      this.#client.subscribe(
        filter,
        { qos, rh: RETAIN_HANDLING[retained], ...(properties && { properties }) },
        (error, _grants, suback) => {
          const code = suback?.granted[0] as number | undefined
          if (code === undefined) reject(connectionLost(error))
          else if (code < FIRST_REFUSAL) resolve(code as QoS)
          else {
            reject(refusal(code, `The broker refused the subscription to ${filter}`, suback?.properties?.reasonString))
          }
        },
      )
    })
  }

  /** Resolves after PINGRESP: all the broker sent before it has arrived. One alone says little, see `SETTLING_ROUND_TRIPS`. */
  async roundTrip(): Promise<void> {
    this.#write({ cmd: 'pingreq' })
    await new Promise<void>((resolve, reject) => {
      this.#pings.push({ resolve, reject })
    })
  }

  /** Resolves after UNSUBACK. */
  unsubscribe(filter: string): Promise<void> {
    this.#cork()
    return new Promise((resolve, reject) => {
      this.#client.unsubscribe(filter, (error) => (error ? reject(connectionLost(error)) : resolve()))
    })
  }

  /**
   * Sends DISCONNECT behind all that was written, ends the session if asked to, and closes: in half a second at most.
   * Resolves with whether the broker has closed too, rather than being cut off.
   */
  async disconnect(endSession: boolean): Promise<boolean> {
    const properties = endSession && this.#protocol === 5 ? { sessionExpiryInterval: 0 } : undefined
    const closed = new Promise<void>((resolve) => this.#client.once('close', resolve))
    this.#write({ cmd: 'disconnect', reasonCode: 0, ...(properties && { properties }) })
    setImmediate(() => this.#client.stream.end())
    let inTime = true
    const timer = setTimeout(() => {
      inTime = false
      this.destroy()
    }, DISCONNECT_TIMEOUT_MS)
    await closed
    clearTimeout(timer)
    return inTime
  }

  destroy(): void {
    this.#client.end(true)
  }

  #received(packet: Packet, isDurable: boolean): void {
    if (!this.#opened) return
    if (packet.cmd === 'disconnect') this.dismissal = packet.reasonCode ?? 0
    else this.productive = true
    if (packet.cmd === 'publish' || packet.cmd === 'pubrel') this.arrived += 1
    if (packet.cmd === 'publish' && packet.qos === 1 && isDurable) {
      const receipt = { messageId: packet.messageId!, dup: packet.dup }
      const message = messageOf(packet)
      // MQTT.js acknowledges QoS 1 by itself and knows no way to put that off but to stop reading, PINGRESP included.
      packet.qos = 0
      this.#handedOn.add(packet)
      this.#handlers.message(message, subscriptionIdentifiersOf(packet), receipt)
      // Its acknowledgement leaves ahead of what readers are written: behind it, whoever has the message could get it again over a cut.
    } else if (packet.cmd === 'publish') this.#cork()
    else if (packet.cmd === 'pingresp') this.#pings.shift()?.resolve()
    else if (packet.cmd === 'puback' || packet.cmd === 'pubrec' || packet.cmd === 'pubcomp') {
      this.#handlers.acknowledged(packet as Acknowledgement)
    }
  }

  #write(packet: Packet): void {
    this.#cork()
    this.#packets.add(packet)
  }

  /** All packets of one turn of the loop leave in one write: `writev` is a third of the busy time without. */
  #cork(): void {
    if (this.#corked) return
    this.#corked = true
    const { stream } = this.#client
    stream.cork()
    setImmediate(() => {
      this.#corked = false
      if (!this.#packets.isEmpty) stream.write(this.#packets.take())
      stream.uncork()
      // Between its end and `close` a stream takes what is written, to throw it away.
      if (this.#opened && !stream.destroyed) this.#handlers.flushed()
    })
  }
}

function connectionLost(cause: unknown): CausewayError {
  return new CausewayError('broker-unavailable', 'The connection to the broker was lost before it answered', {
    retryAfter: 1,
    cause,
  })
}
