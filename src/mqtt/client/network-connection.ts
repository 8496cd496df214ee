import './silent-packets.ts'
import { connect, type IPublishPacket, type MqttClient, type Packet, Store } from 'mqtt'
import { CausewayError } from '../../errors.ts'
import type { Capabilities } from '../capabilities.ts'
import { forEachAcknowledgement, isAcknowledgements } from './acknowledgements.ts'
import { clientOptions } from './client-options.ts'
import type { Endpoint, Will } from './endpoint.ts'
import { connectTimeout, notAnswering, packetTooLarge } from './failures.ts'
import type { Message, QoS } from '../message.ts'
import { PacketBuffer } from './packet-buffer.ts'
import { PacketIds } from './packet-ids.ts'
import { PacketScanner } from './packet-scanner.ts'
import { PlainMessages } from './plain-messages.ts'
import { ReadTurns } from './read-turns.ts'
import {
  type Acknowledgement,
  capabilitiesOf,
  messageFromPacket,
  publishPacket,
  subscriptionIdentifiersOf,
} from './packets.ts'
import { FIRST_REFUSAL, refusal } from '../reason-codes.ts'
import { acceptAllReasonCodes } from './reason-code-tables.ts'
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

/** Options of a durable session: the broker's session is the only store of its unacknowledged messages. */
export interface DurableOptions {
  /** Seconds for which the broker keeps the session after each disconnect. Over MQTT 3.1.1 the broker decides. */
  expiryS: number
}

export interface SubscribeOptions {
  /** The broker sends it back with each message of the subscription; undefined where it does not support that. */
  identifier: number | undefined
  /** When the broker sends retained messages; `if-new`: only if the subscription does not exist yet. */
  retained: keyof typeof RETAIN_HANDLING
}

export interface NetworkConnectionHandlers {
  /** CONNACK accepted the connection. Called before any later packet is handed over. */
  opened(capabilities: Capabilities, sessionPresent: boolean): void
  /** Called once, as the last one. Without a cause, the broker closed the connection without a reason, or we did. */
  closed(cause: (Error & { code?: unknown }) | undefined): void
  acknowledged(packet: Acknowledgement): void
  /** QoS 1 messages of durable sessions the caller has to `acknowledge`; all others are acknowledged already. */
  message(message: Message, subscriptionIdentifiers: readonly number[], receipt?: Receipt): void
  /** All packets written in the last turn of the event loop are with the socket. */
  flushed(): void
  /** The socket takes packets again, after `writable` was false. */
  drained(): void
}

/** The client's part of the MQTT session: QoS 2 messages between PUBREC and PUBREL. Outlives network connections. */
export class SessionState extends Store {
  constructor() {
    super({ clean: false })
  }
}

/**
 * A PINGRESP may arrive before messages that the broker still passes on internally: Aedes does that over several turns
 * of its event loop, clustered brokers between processes. After this many round trips they are assumed to have arrived.
 */
export const SETTLING_ROUND_TRIPS = 3
/** MQTT 5 section 3.8.3.1. */
const RETAIN_HANDLING = { always: 0, 'if-new': 1, never: 2 } as const
const DISCONNECT_TIMEOUT_MS = 500
/** Most messages that may come before CONNACK. */
const EARLY_MAX = 1000

/**
 * One network connection to the broker (MQTT 5 section 4.2), from CONNECT until it is closed; it never reconnects.
 * It does not remember publishes: the caller keeps track of which are in flight.
 */
export class NetworkConnection {
  readonly #client: MqttClient
  readonly #handlers: NetworkConnectionHandlers
  readonly #protocol: 5 | 4
  /** For each PINGREQ that has no answer yet, whoever waits for that. */
  readonly #pings: { resolve: () => void; reject: (error: CausewayError) => void }[] = []
  readonly #maxPacketBytes: number
  /**
   * The packet whose message was handed over on `packetreceive`. MQTT.js emits `message` for it as well, before the
   * next packet.
   */
  #alreadyDelivered: Packet | undefined
  readonly #packets: PacketBuffer
  #corked = false
  #opened = false
  /** PUBLISH and PUBREL packets received so far. The answer to each may make room in the broker's send window. */
  inboundPackets = 0
  #packetsRead = 0
  /** Those that MQTT.js has begun to handle, which it does in one go. */
  #packetsParsed = 0
  /** Whether the broker sent any packet after CONNACK, DISCONNECT not counted. */
  hasReceived = false
  /** Whether the client sent a PUBLISH. Some brokers close the connection over one that they refuse. */
  hasPublished = false
  /** SUBSCRIBEs and UNSUBSCRIBEs that the broker has not answered. Some brokers close the connection over these too. */
  unansweredRequests = 0
  /** Reason code of the broker's DISCONNECT, if it sent one. */
  disconnectReason: number | undefined
  /** Another server, if the CONNACK or DISCONNECT that ended the connection names one (MQTT 5 section 4.13). */
  serverReference: string | undefined
  /** When the last bytes came from the broker, as `performance.now()`. */
  #receivedAt = 0
  /** Why the connection ends, if the client ends it. */
  #cause: Error | undefined
  /** Messages that came before CONNACK, until that comes. Artemis sends them so now and then, against MQTT-3.2.0-1. */
  #early: IPublishPacket[] | undefined = []
  /** Nothing that arrived is handed over any more. */
  #isDiscarded = false
  #isHeld = false
  /** The broker sends no messages, since there was no subscription and the session is not a durable one. */
  #onlyPublishes: boolean
  /** Goes on behind the message that was the last one before `hold`. */
  #goOn: (() => void) | undefined

  constructor(options: NetworkConnectionOptions, handlers: NetworkConnectionHandlers) {
    const { endpoint, protocol, durable } = options
    this.#protocol = protocol
    this.#maxPacketBytes = endpoint.maxPacketBytes
    this.#handlers = handlers
    this.#packets = new PacketBuffer(protocol)
    acceptAllReasonCodes()
    const client = (this.#client = connect({
      ...clientOptions(options),
      incomingStore: options.session,
      messageIdProvider: new PacketIds(),
    }))
    this.#onlyPublishes = durable === undefined
    if (durable !== undefined) this.#canBeHeld()
    this.#readBytes(durable !== undefined)
    this.#keepAlive()
    const timer = setTimeout(() => {
      this.destroy(connectTimeout(client.stream.writableLength === 0, endpoint.connectTimeoutMs))
    }, endpoint.connectTimeoutMs)
    client.on('packetreceive', (packet) => {
      this.#packetsParsed += 1
      if (packet.cmd !== 'connack') return this.#received(packet, durable !== undefined)
      clearTimeout(timer)
      this.serverReference = packet.properties?.serverReference
      // MQTT.js emits `connect` only some turns later, after the first messages. At the next tick it is ready already.
      process.nextTick(() => {
        if (!client.connected) return
        if ('setNoDelay' in client.stream) (client.stream as { setNoDelay(on: boolean): void }).setNoDelay(true)
        client.stream.on('drain', handlers.drained)
        this.#opened = true
        handlers.opened(capabilitiesOf(packet, protocol), packet.sessionPresent)
        this.#handOverEarly(options)
      })
    })
    client.on('message', (_topic, _payload, packet) => {
      if (this.#isHandedOver && this.#alreadyDelivered !== packet) {
        handlers.message(messageFromPacket(packet), subscriptionIdentifiersOf(packet), receiptOf(packet))
      }
    })
    client.on('error', (error) => this.destroy(error))
    // MQTT.js passes on only errors with a code. A WebSocket upgrade that is refused has none.
    client.stream.on('error', (error: Error) => (this.#cause ??= error))
    client.once('close', () => {
      clearTimeout(timer)
      // Packets that were parsed before the close may still be emitted.
      this.#opened = false
      for (const { reject } of this.#pings.splice(0)) reject(connectionLost(this.#cause))
      handlers.closed(this.#cause)
    })
  }

  /** Between CONNACK and the close. */
  get isOpen(): boolean {
    return this.#opened
  }

  /** False while the socket's buffer is full; `drained` is called once it is not. */
  get writable(): boolean {
    return !this.#client.stream.writableNeedDrain
  }

  /** Bytes that have arrived, also of packets that are not complete; over WebSocket the number of packets. */
  get bytesRead(): number {
    return 'bytesRead' in this.#client.stream ? (this.#client.stream.bytesRead as number) : this.#packetsRead
  }

  publish(message: Message, messageId: number, dup: boolean): void {
    this.hasPublished = true
    this.#write(publishPacket(message, messageId, dup))
  }

  /** Sends PUBREL. */
  release(messageId: number): void {
    this.#cork()
    this.#packets.addPubrel(messageId)
  }

  /** Sends PUBACK. The caller sends them in the order in which the messages arrived [MQTT-4.6.0-2]. */
  acknowledge(messageId: number): void {
    this.#cork()
    this.#packets.addPuback(messageId)
  }

  /**
   * Resolves with the granted QoS after SUBACK. Over MQTT 3.1.1 `retained` has no effect: the broker always sends the
   * retained messages.
   * @throws CausewayError where the broker refuses the filter or the connection is lost first
   */
  subscribe(filter: string, qos: QoS, { identifier, retained }: SubscribeOptions): Promise<QoS> {
    this.#onlyPublishes = false
    this.#cork()
    this.unansweredRequests += 1
    const properties = identifier === undefined ? undefined : { subscriptionIdentifier: identifier }
    return new Promise((resolve, reject) => {
      this.#client.subscribe(
        filter,
        { qos, rh: RETAIN_HANDLING[retained], ...(properties && { properties }) },
        (error, _grants, suback) => {
          const code = suback?.granted[0] as number | undefined
          if (code !== undefined) this.unansweredRequests -= 1
          if (code === undefined) reject(connectionLost(error))
          else if (code < FIRST_REFUSAL) resolve(code as QoS)
          else {
            reject(refusal(code, `The broker refused the subscription to ${filter}`, suback?.properties?.reasonString))
          }
        },
      )
    })
  }

  /** Resolves after PINGRESP: all that the broker sent before it has arrived. See also `SETTLING_ROUND_TRIPS`. */
  async roundTrip(): Promise<void> {
    this.#write({ cmd: 'pingreq' })
    await new Promise<void>((resolve, reject) => {
      this.#pings.push({ resolve, reject })
    })
  }

  /** Closes the connection unless any bytes come from the broker within this time. Asks for some with PINGREQ. */
  async requireSignOfLife(timeoutMs: number): Promise<void> {
    const askedAt = performance.now()
    const timer = setTimeout(() => {
      if (this.#isHeld || this.#receivedAt >= askedAt) return
      this.destroy(notAnswering(`it sent nothing for ${timeoutMs} ms after a ping`))
    }, timeoutMs)
    await this.roundTrip().catch(() => {})
    clearTimeout(timer)
  }

  /** Resolves after UNSUBACK. */
  unsubscribe(filter: string): Promise<void> {
    this.#cork()
    this.unansweredRequests += 1
    return new Promise((resolve, reject) => {
      this.#client.unsubscribe(filter, (error) => {
        if (error) return reject(connectionLost(error))
        this.unansweredRequests -= 1
        resolve()
      })
    })
  }

  /**
   * Sends DISCONNECT after all that was written and closes the connection, within half a second.
   * @param endSession ends the session too; without effect over MQTT 3.1.1
   * @returns whether the broker closed its side in time; otherwise the connection was cut
   */
  async disconnect(endSession: boolean): Promise<boolean> {
    // Otherwise nothing would show that the broker closes its side.
    this.resume()
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

  /**
   * Reads nothing more from the broker, not even PINGRESP, until `resume`: what it has sent stays with it and in the
   * sockets. To be called while a message is handed over. Only for connections of durable sessions.
   */
  hold(): void {
    this.#isHeld = true
  }

  resume(): void {
    this.#isHeld = false
    const goOn = this.#goOn
    this.#goOn = undefined
    if (goOn === undefined) return
    // Nothing was read meanwhile, so that nothing came does not count against the broker.
    this.#receivedAt = performance.now()
    goOn()
  }

  /** @param cause why, for the `closed` handler */
  destroy(cause: Error = notAnswering('it acknowledged nothing')): void {
    this.#cause ??= cause
    this.#client.end(true)
  }

  /**
   * As `destroy`, and hands over none of the messages that have arrived already: they are of a session that is about to
   * be ended, and may be another client's.
   */
  discard(cause: Error): void {
    this.#isDiscarded = true
    this.destroy(cause)
  }

  get #isHandedOver(): boolean {
    return this.#opened && !this.#isDiscarded
  }

  /**
   * Looks at the bytes from the broker before MQTT.js parses them. MQTT.js would collect a packet of any size before it
   * looks at its length, and over MQTT 3.1.1 it never does. Each packet takes it a stream, an object, an event and a
   * tick: acknowledgements of publishes, and messages at QoS 0, are read here instead.
   */
  #readBytes(isDurable: boolean): void {
    const scanner = new PacketScanner()
    const messages = new PlainMessages(this.#protocol, this.#maxPacketBytes, (message, identifiers) => {
      this.#plainMessage(message, identifiers)
    })
    const { stream } = this.#client
    const turns = new ReadTurns(stream)
    const [parse] = stream.listeners('data') as [(chunk: Buffer) => void]
    stream.off('data', parse)
    const readByMqttJs = (bytes: Buffer): void => {
      const size = scanner.scan(bytes)
      if (size > this.#maxPacketBytes) this.destroy(packetTooLarge(size, this.#maxPacketBytes))
      parse(bytes)
    }
    const readMessages = (chunk?: Buffer): void => {
      if (!this.#isHandedOver) return
      const rest = messages.read(chunk)
      if (rest !== undefined) readByMqttJs(rest)
      else if (messages.hasMore) process.nextTick(readMessages)
    }
    stream.on('data', (chunk: Buffer) => {
      this.#receivedAt = performance.now()
      const isBetweenPackets = scanner.isBetweenPackets && !messages.keepsBytes
      // Where messages come too, an acknowledgement must not overtake those that MQTT.js still works at.
      if (this.#onlyPublishes && isBetweenPackets && isAcknowledgements(chunk)) {
        return forEachAcknowledgement(chunk, (packet) => this.#acknowledged(packet))
      }
      // Nor must a message. Those of a durable session may have to wait, which is up to MQTT.js.
      const isMqttJsIdle = scanner.isBetweenPackets && scanner.packets === this.#packetsParsed
      if (!this.#isHandedOver || isDurable || !isMqttJsIdle) return readByMqttJs(chunk)
      readMessages(chunk)
      turns.took(chunk.length)
    })
  }

  #plainMessage(message: Message, identifiers: readonly number[]): void {
    // The one before may have closed the connection.
    if (!this.#isHandedOver) return
    this.#packetsRead += 1
    this.hasReceived = true
    this.inboundPackets += 1
    this.#handlers.message(message, identifiers)
  }

  #acknowledged(packet: Acknowledgement): void {
    // The one before may have closed the connection.
    if (!this.#isHandedOver) return
    this.#packetsRead += 1
    this.hasReceived = true
    this.#handlers.acknowledged(packet)
  }

  /** MQTT.js reads the next packet once this calls back. */
  #canBeHeld(): void {
    this.#client.handleMessage = (_packet, callback) => {
      if (this.#isHeld) this.#goOn = () => callback()
      else callback()
    }
  }

  /**
   * Any bytes from the broker are a sign of life. MQTT.js knows only PINGRESP, which a large message holds up: over a
   * slow link it would close the connection in the middle of such a message, and of every repetition of it.
   */
  #keepAlive(): void {
    const client = this.#client
    let pingedAt = 0
    client.sendPing = () => {
      pingedAt = performance.now()
      void this.roundTrip().catch(() => {})
    }
    client.onKeepaliveTimeout = () => {
      if (!this.#isHeld && this.#receivedAt < pingedAt) {
        return this.destroy(notAnswering(`it sent nothing for 1.5 times the keep-alive of ${client.keepalive} s`))
      }
      client.reschedulePing(true)
      // The broker expects a packet from us within 1.5 times the keep-alive, and the next one is due only in one.
      client.sendPing()
    }
  }

  #received(packet: Packet, isDurable: boolean): void {
    if (!this.#isHandedOver) {
      if (!this.#isDiscarded && packet.cmd === 'publish') this.#keepEarly({ ...packet })
      // MQTT.js goes on with what it has parsed already. Of a PUBREL it would take the message out of the session, and
      // the broker would not send it again. A packet of a kind that it does not know it leaves alone.
      packet.cmd = 'left alone' as never
      return
    }
    this.#packetsRead += 1
    // The connection is being closed over this packet. It came in one piece with its length.
    if ((packet.length ?? 0) > this.#maxPacketBytes) return void (this.#alreadyDelivered = packet)
    // Over MQTT 3.1.1 mochi and comqtt send one too, which says nothing: it stands for the close alone.
    if (packet.cmd === 'disconnect' && this.#protocol === 4) return
    if (packet.cmd === 'disconnect') {
      this.disconnectReason = packet.reasonCode ?? 0
      this.serverReference = packet.properties?.serverReference
    } else this.hasReceived = true
    if (packet.cmd === 'publish' || packet.cmd === 'pubrel') this.inboundPackets += 1
    if (packet.cmd === 'publish' && packet.qos === 1 && isDurable) {
      const receipt = receiptOf(packet)
      const message = messageFromPacket(packet)
      // MQTT.js acknowledges QoS 1 messages by itself. The only way it offers to delay that also stops it from reading
      // anything else, PINGRESP included. It acknowledges no QoS 0 message, so that is what the packet is made.
      packet.qos = 0
      this.#alreadyDelivered = packet
      this.#handlers.message(message, subscriptionIdentifiersOf(packet), receipt)
    } else if (packet.cmd === 'publish') {
      // MQTT.js will write the acknowledgement. Corking now means that it leaves before readers are written to, so a
      // lost connection cannot make the broker send again what they have seen.
      this.#cork()
    } else if (packet.cmd === 'pingresp') this.#pings.shift()?.resolve()
    else if (packet.cmd === 'puback' || packet.cmd === 'pubrec' || packet.cmd === 'pubcomp') {
      this.#handlers.acknowledged(packet as Acknowledgement)
    }
  }

  #keepEarly(packet: IPublishPacket): void {
    if (this.#early === undefined) return
    if (this.#early.length < EARLY_MAX) this.#early.push(packet)
    else this.destroy(notAnswering(`it sent more than ${EARLY_MAX} messages before CONNACK`))
  }

  /** Does with each message what MQTT.js would have done, had it come behind CONNACK. */
  #handOverEarly({ durable, session }: NetworkConnectionOptions): void {
    const early = this.#early ?? []
    this.#early = undefined
    for (const packet of early) {
      if (!this.#isHandedOver) return
      const { qos, messageId = 0 } = packet
      this.inboundPackets += 1
      if (qos === 2) {
        session.put(packet, () => this.#write({ cmd: 'pubrec', messageId, reasonCode: 0 }))
        continue
      }
      this.#handlers.message(messageFromPacket(packet), subscriptionIdentifiersOf(packet), receiptOf(packet))
      if (qos === 1 && durable === undefined) this.acknowledge(messageId)
    }
  }

  #write(packet: Packet): void {
    this.#cork()
    this.#packets.add(packet)
  }

  /**
   * All packets of one turn of the event loop leave in one write. One `writev` for each took a third of the CPU time.
   */
  #cork(): void {
    if (this.#corked) return
    this.#corked = true
    const { stream } = this.#client
    stream.cork()
    setImmediate(() => {
      this.#corked = false
      if (!this.#packets.isEmpty) stream.write(this.#packets.take())
      stream.uncork()
      // A stream that was destroyed accepts writes until it emits `close`, and discards them.
      if (this.#opened && !stream.destroyed) this.#handlers.flushed()
    })
  }
}

function receiptOf({ qos, messageId, dup }: IPublishPacket): Receipt | undefined {
  return qos === 1 && messageId !== undefined ? { messageId, dup } : undefined
}

function connectionLost(cause: unknown): CausewayError {
  return new CausewayError('broker-unavailable', 'The connection to the broker was lost before it answered', {
    retryAfter: 1,
    cause,
  })
}
