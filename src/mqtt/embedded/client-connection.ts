import '../client/silent-packets.ts'
import type { Socket } from 'node:net'
import {
  type IConnectPacket,
  type IPublishPacket,
  type ISubscribePacket,
  type IUnsubscribePacket,
  type Packet,
  parser as createParser,
} from 'mqtt-packet'
import { PacketBuffer } from '../client/packet-buffer.ts'
import { PacketScanner } from '../client/packet-scanner.ts'
import { FIRST_REFUSAL, PACKET_IDENTIFIER_NOT_FOUND, QUOTA_EXCEEDED, SUCCESS } from '../reason-codes.ts'
import { filterFault, parseShare } from '../topic.ts'
import { type BrokerMessage, brokerMessage } from './broker-message.ts'
import type { MqttSession, SessionConnection } from './mqtt-session.ts'

const UNSPECIFIED_ERROR = 0x80
const MALFORMED_PACKET = 0x81
const PROTOCOL_ERROR = 0x82
const NOT_AUTHORIZED = 0x87
const BAD_AUTHENTICATION_METHOD = 0x8c
const KEEP_ALIVE_TIMEOUT = 0x8d
const FILTER_INVALID = 0x8f
const TOPIC_INVALID = 0x90
const TOPIC_ALIAS_INVALID = 0x94
const PACKET_TOO_LARGE = 0x95
const DISCONNECT_WITH_WILL = 0x04
const NO_SUBSCRIPTION_EXISTED = 0x11
const CLIENT_IDENTIFIER_NOT_VALID = 0x85
/** CONNACK of MQTT 3.1.1. */
const IDENTIFIER_REJECTED = 2
const SERVER_UNAVAILABLE = 3

/** How long a connection may take to send CONNECT. */
const CONNECT_MS = 10_000
/** How long a client may take to close a connection that the broker has ended. */
const CLOSE_MS = 1000
/** Bytes in the socket beyond which deliveries wait in the session, where memory is accounted for. */
const UNSENT_BYTES_MAX = 262_144
/** Most packets in flight to an MQTT 3.1.1 client, which cannot say how many it takes. */
const MQTT311_WINDOW = 1000
const RECEIVE_MAXIMUM_DEFAULT = 65_535
/** Levels of a filter: more serve nobody, and the search for a topic is recursive. */
const FILTER_LEVELS_MAX = 200
const FILTER_RULES = { levelsMax: FILTER_LEVELS_MAX, allowDollar: true }
/** Of a string in a packet (MQTT 5 section 1.5.4). */
const STRING_BYTES_MAX = 65_535
/** Roughly what a packet takes without its payload; only how full the socket is depends on it. */
const PACKET_OVERHEAD = 64

export interface Will {
  message: BrokerMessage
  delayS: number
}

export interface SessionRequest {
  clientId: string
  cleanStart: boolean
}

/** What connections need of the broker. */
export interface ConnectionHost {
  maxPacketBytes: number
  /** Takes the session over from another connection of the same client id. Undefined where memory is short. */
  open(request: SessionRequest, connection: ClientConnection): { session: MqttSession; isPresent: boolean } | undefined
  newClientId(): string
  /** Returns the reason code that a PUBACK or PUBREC has to carry. */
  publish(message: BrokerMessage, from: MqttSession): number
  /** Returns the reason codes of a SUBACK, in order. */
  subscribe(session: MqttSession, subscriptions: readonly SubscribeRequest[]): number[]
  unsubscribe(session: MqttSession, filter: string): boolean
  /** Sends retained messages for what was subscribed to, once the client has its SUBACK. */
  sendRetained(session: MqttSession, subscriptions: readonly SubscribeRequest[]): void
  /**
   * The network connection is gone.
   * @param expiryS how long the session outlives it; Infinity for as long as the broker lives
   * @param will undefined where it is not to be published
   */
  closed(connection: ClientConnection, expiryS: number, will: Will | undefined): void
}

export interface SubscribeRequest {
  filter: string
  qos: 0 | 1 | 2
  noLocal: boolean
  retainAsPublished: boolean
  /** 0 always, 1 for a new subscription only, 2 never (MQTT 5 section 3.8.3.1). */
  retainHandling: number
  identifier: number | undefined
  /** Whether the session had a subscription to this filter. Set by `subscribe`. */
  isKnown?: boolean
}

/** The client broke the protocol: the connection ends with this reason. */
class ProtocolFault extends Error {
  readonly reasonCode: number

  constructor(reasonCode: number, message: string) {
    super(message)
    this.reasonCode = reasonCode
  }
}

/** One network connection of a client to the embedded broker: MQTT 5, 3.1.1 or 3.1, whatever its CONNECT says. */
export class ClientConnection implements SessionConnection {
  readonly #socket: Socket
  readonly #host: ConnectionHost
  readonly #scanner = new PacketScanner()
  readonly #parser = createParser()
  readonly #parsed: Packet[] = []
  #isMalformed = false
  #version: 3 | 4 | 5 = 4
  #buffer = new PacketBuffer(4)
  #bufferedBytes = 0
  #session: MqttSession | undefined
  #expiryS = 0
  #will: Will | undefined
  #maximumPacketSize = Infinity
  /** Until CONNECT, and then until the client has been silent for too long. */
  #timer: NodeJS.Timeout | undefined
  #isOver = false

  constructor(socket: Socket, host: ConnectionHost) {
    this.#socket = socket
    this.#host = host
    this.#timer = setTimeout(() => this.end(KEEP_ALIVE_TIMEOUT), CONNECT_MS)
    this.#parser.on('packet', (packet) => this.#parsed.push(packet))
    this.#parser.on('error', () => (this.#isMalformed = true))
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('drain', () => this.#session?.resume())
    // A reset is followed by `close`.
    socket.on('error', () => {})
    socket.on('close', () => this.#over(this.#will))
  }

  get hasRoom(): boolean {
    return !this.#isOver && this.#socket.writableLength + this.#bufferedBytes < UNSENT_BYTES_MAX
  }

  accepts(packet: IPublishPacket): boolean {
    if (this.#maximumPacketSize === Infinity) return true
    const buffer = new PacketBuffer(5)
    buffer.add(packet)
    return buffer.take().length <= this.#maximumPacketSize
  }

  /** Packets of one turn of the event loop leave in one write. */
  send(packet: Packet): void {
    if (this.#isOver) return
    if (this.#buffer.isEmpty) setImmediate(() => this.#flush())
    this.#buffer.add(packet)
    this.#bufferedBytes += PACKET_OVERHEAD + (packet.cmd === 'publish' ? packet.payload.length : 0)
  }

  /**
   * Ends the connection with DISCONNECT, which MQTT 3.1.1 does not have; there it is only closed.
   * @param isWillSent whether this counts as a loss of the client
   */
  end(reasonCode: number, isWillSent = true): void {
    if (this.#isOver) return
    if (this.#version === 5 && this.#session !== undefined) this.send({ cmd: 'disconnect', reasonCode })
    this.#close(isWillSent ? this.#will : undefined)
  }

  #onData(chunk: Buffer): void {
    if (this.#isOver) return
    if (this.#session !== undefined) this.#timer?.refresh()
    if (this.#scanner.scan(chunk) > this.#host.maxPacketBytes) return this.end(PACKET_TOO_LARGE)
    try {
      this.#parser.parse(chunk)
    } catch {
      // It reads beyond the end of some packets that are cut off.
      this.#isMalformed = true
    }
    for (const packet of this.#parsed.splice(0)) this.#onPacket(packet)
    if (this.#isMalformed) this.end(MALFORMED_PACKET)
  }

  #onPacket(packet: Packet): void {
    // Packets that were behind the one that ended the connection.
    if (this.#isOver) return
    try {
      if (packet.cmd === 'connect') this.#onConnect(packet)
      else if (this.#session === undefined) this.end(PROTOCOL_ERROR)
      else if (lacksIdentifier(packet)) this.end(MALFORMED_PACKET)
      else this.#onSessionPacket(packet, this.#session)
    } catch (error) {
      // Whatever a client sends ends no more than its own connection.
      this.end(error instanceof ProtocolFault ? error.reasonCode : UNSPECIFIED_ERROR)
    }
  }

  #onSessionPacket(packet: Packet, session: MqttSession): void {
    switch (packet.cmd) {
      case 'publish':
        return this.#onPublish(packet, session)
      case 'puback':
      case 'pubcomp':
        return session.acknowledged(packet.messageId!)
      case 'pubrec':
        return session.receivedBy(packet.messageId!, packet.reasonCode ?? SUCCESS)
      case 'pubrel': {
        const isKnown = session.received.delete(packet.messageId!)
        const reasonCode = isKnown ? SUCCESS : PACKET_IDENTIFIER_NOT_FOUND
        return this.send({ cmd: 'pubcomp', messageId: packet.messageId!, reasonCode })
      }
      case 'subscribe':
        return this.#onSubscribe(packet, session)
      case 'unsubscribe':
        return this.#onUnsubscribe(packet, session)
      case 'pingreq':
        return this.send({ cmd: 'pingresp' })
      case 'disconnect': {
        const expiryS = packet.properties?.sessionExpiryInterval
        if (expiryS !== undefined) {
          if (this.#expiryS === 0 && expiryS > 0) throw new ProtocolFault(PROTOCOL_ERROR, 'the session has no expiry')
          this.#expiryS = expiryOf(expiryS)
        }
        return this.#close(packet.reasonCode === DISCONNECT_WITH_WILL ? this.#will : undefined)
      }
      default:
        throw new ProtocolFault(PROTOCOL_ERROR, `a client does not send ${packet.cmd}`)
    }
  }

  #onConnect(packet: IConnectPacket): void {
    if (this.#session !== undefined) throw new ProtocolFault(PROTOCOL_ERROR, 'a second CONNECT')
    const { properties = {}, clientId, keepalive = 0, clean = true, will } = packet
    this.#version = packet.protocolVersion ?? 4
    this.#buffer = new PacketBuffer(this.#version === 5 ? 5 : 4)
    const is5 = this.#version === 5
    const hasMethod = properties.authenticationMethod !== undefined
    if (hasMethod) return this.#refuse(BAD_AUTHENTICATION_METHOD, SERVER_UNAVAILABLE)
    if (clientId === '' && !is5 && !clean) return this.#refuse(CLIENT_IDENTIFIER_NOT_VALID, IDENTIFIER_REJECTED)
    if (properties.receiveMaximum === 0) return this.#refuse(PROTOCOL_ERROR, SERVER_UNAVAILABLE)
    if (will !== undefined && publishFault(will) !== undefined) return this.#refuse(TOPIC_INVALID, SERVER_UNAVAILABLE)
    // A session of MQTT 3.1.1 without Clean Session has no end.
    this.#expiryS = is5 ? expiryOf(properties.sessionExpiryInterval ?? 0) : clean ? 0 : Infinity
    this.#will = will && {
      message: brokerMessage({ qos: 0, retain: false, ...will } as IPublishPacket),
      delayS: will.properties?.willDelayInterval ?? 0,
    }
    if (is5) this.#maximumPacketSize = properties.maximumPacketSize ?? Infinity
    this.#setKeepAlive(keepalive)
    const name = clientId === '' ? this.#host.newClientId() : clientId
    const opened = this.#host.open({ clientId: name, cleanStart: clean }, this)
    if (opened === undefined) return this.#refuse(QUOTA_EXCEEDED, SERVER_UNAVAILABLE)
    this.#session = opened.session
    this.send({
      cmd: 'connack',
      sessionPresent: opened.isPresent,
      ...(is5
        ? {
            reasonCode: SUCCESS,
            properties: {
              maximumPacketSize: this.#host.maxPacketBytes,
              ...(clientId === '' && { assignedClientIdentifier: name }),
            },
          }
        : { returnCode: 0 }),
    })
    const window = is5 ? (properties.receiveMaximum ?? RECEIVE_MAXIMUM_DEFAULT) : MQTT311_WINDOW
    opened.session.attach(this, window)
  }

  #onPublish(packet: IPublishPacket, session: MqttSession): void {
    const { qos, messageId, topic, properties } = packet
    // The broker offers no aliases [MQTT-3.3.2-9].
    if (properties?.topicAlias !== undefined) throw new ProtocolFault(TOPIC_ALIAS_INVALID, 'a topic alias')
    const fault = publishFault(packet)
    if (fault !== undefined) throw fault
    if (properties?.subscriptionIdentifier !== undefined) {
      throw new ProtocolFault(PROTOCOL_ERROR, 'a publish with a subscription identifier')
    }
    if (qos === 2 && session.received.has(messageId!)) {
      // The client has not seen the PUBREC: it is published already [MQTT-4.3.3-10].
      return this.send({ cmd: 'pubrec', messageId: messageId!, reasonCode: SUCCESS })
    }
    // `$SYS` is the broker's own. An MQTT 3.1.1 client cannot be told but by the end of the connection.
    const isReserved = topic.startsWith('$SYS/')
    if (isReserved && this.#version !== 5) throw new ProtocolFault(NOT_AUTHORIZED, '$SYS is reserved')
    const reasonCode = isReserved ? NOT_AUTHORIZED : this.#host.publish(brokerMessage(packet), session)
    if (qos === 0) return
    if (reasonCode >= FIRST_REFUSAL && this.#version !== 5) throw new ProtocolFault(reasonCode, 'refused')
    if (qos === 2 && reasonCode < FIRST_REFUSAL) session.received.add(messageId!)
    this.send({ cmd: qos === 1 ? 'puback' : 'pubrec', messageId: messageId!, reasonCode })
  }

  #onSubscribe({ messageId, subscriptions, properties }: ISubscribePacket, session: MqttSession): void {
    const identifier = properties?.subscriptionIdentifier
    if (identifier === 0) throw new ProtocolFault(PROTOCOL_ERROR, 'subscription identifier 0')
    if (subscriptions.length === 0) throw new ProtocolFault(PROTOCOL_ERROR, 'a SUBSCRIBE without filters')
    const requests = subscriptions.map(({ topic, qos, nl = false, rap = false, rh = 0 }) => ({
      filter: topic,
      qos,
      noLocal: nl,
      retainAsPublished: rap,
      retainHandling: rh,
      identifier,
    }))
    if (requests.some(({ filter, noLocal }) => noLocal && parseShare(filter) !== undefined)) {
      throw new ProtocolFault(PROTOCOL_ERROR, 'No Local of a shared subscription')
    }
    const valid = requests.filter(({ filter }) => filterFault(filter, FILTER_RULES) === undefined)
    const granted = this.#host.subscribe(session, valid)
    const codes = requests.map((request) => granted[valid.indexOf(request)] ?? FILTER_INVALID)
    this.send({
      cmd: 'suback',
      messageId: messageId!,
      granted: this.#version === 5 ? codes : codes.map((code) => Math.min(code, FIRST_REFUSAL)),
    })
    this.#host.sendRetained(
      session,
      valid.filter((_, index) => granted[index]! < FIRST_REFUSAL),
    )
  }

  #onUnsubscribe({ messageId, unsubscriptions }: IUnsubscribePacket, session: MqttSession): void {
    if (unsubscriptions.length === 0) throw new ProtocolFault(PROTOCOL_ERROR, 'an UNSUBSCRIBE without filters')
    const granted = unsubscriptions.map((filter) =>
      this.#host.unsubscribe(session, filter) ? SUCCESS : NO_SUBSCRIPTION_EXISTED,
    )
    this.send({ cmd: 'unsuback', messageId: messageId!, granted })
  }

  /** CONNACK with a refusal, and the end. */
  #refuse(reasonCode: number, returnCode: number): void {
    this.send({ cmd: 'connack', sessionPresent: false, ...(this.#version === 5 ? { reasonCode } : { returnCode }) })
    this.#close(undefined)
  }

  #setKeepAlive(seconds: number): void {
    clearTimeout(this.#timer)
    // 1.5 times [MQTT-3.1.2-22].
    this.#timer = seconds > 0 ? setTimeout(() => this.end(KEEP_ALIVE_TIMEOUT), seconds * 1500) : undefined
  }

  #flush(): void {
    if (this.#buffer.isEmpty) return
    const bytes = this.#buffer.take()
    this.#bufferedBytes = 0
    if (this.#socket.writable) this.#socket.write(bytes)
    // What waited because the buffer was full.
    if (!this.#isOver) this.#session?.resume()
  }

  /** Closes the socket behind what is to be sent. */
  #close(will: Will | undefined): void {
    this.#over(will)
    this.#flush()
    this.#socket.destroySoon()
    setTimeout(() => this.#socket.destroy(), CLOSE_MS).unref()
  }

  /** From now on the connection counts for nothing. */
  #over(will: Will | undefined): void {
    clearTimeout(this.#timer)
    if (this.#isOver) return
    this.#isOver = true
    if (this.#session !== undefined) this.#host.closed(this, this.#expiryS, will)
  }
}

/** Why this cannot be passed on to subscribers, or undefined. */
function publishFault(packet: Pick<IPublishPacket, 'topic' | 'properties'>): ProtocolFault | undefined {
  const { topic, properties = {} } = packet
  const { responseTopic } = properties
  if (isWildcard(topic) || (responseTopic !== undefined && isWildcard(responseTopic))) {
    return new ProtocolFault(TOPIC_INVALID, 'an empty topic or one with wildcards')
  }
  // User properties are one object.
  if (Object.values(properties).some((value) => Array.isArray(value))) {
    return new ProtocolFault(PROTOCOL_ERROR, 'a property that comes twice')
  }
  // A byte that is no UTF-8 becomes three when it is passed on, and the parser takes properties that are cut off.
  const isBare = packet.properties === undefined && topic.length <= STRING_BYTES_MAX / 3
  return isBare || canBeWritten(topic, properties) ? undefined : new ProtocolFault(MALFORMED_PACKET, 'malformed')
}

function canBeWritten(topic: string, properties: NonNullable<IPublishPacket['properties']>): boolean {
  const buffer = new PacketBuffer(5)
  try {
    buffer.add({ cmd: 'publish', topic, payload: '', qos: 0, retain: false, dup: false, properties })
    return buffer.take().length > 0
  } catch {
    return false
  }
}

function isWildcard(topic: string): boolean {
  return topic === '' || /[+#]/.test(topic)
}

/** 0xFFFFFFFF is for ever (MQTT 5 section 3.1.2.11.2). */
function expiryOf(seconds: number): number {
  return seconds === 0xffff_ffff ? Infinity : seconds
}

/** Packets that have a packet identifier. Of PUBLISH only those above QoS 0. */
const IDENTIFIED = new Set(['publish', 'puback', 'pubrec', 'pubrel', 'pubcomp', 'subscribe', 'unsubscribe'])

/** The packet is cut off before its packet identifier, which mqtt-packet does not notice, or has 0 there. */
function lacksIdentifier(packet: Packet): boolean {
  if (!IDENTIFIED.has(packet.cmd) || (packet.cmd === 'publish' && packet.qos === 0)) return false
  return !(Number(packet.messageId) > 0)
}
