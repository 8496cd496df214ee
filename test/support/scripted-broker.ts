import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { generate, type IConnectPacket, type IPublishPacket, type Packet, parser } from 'mqtt-packet'
import { onTestFinished } from 'vitest'

/** One network connection of a client to the scripted broker. */
export interface Peer {
  /** Its CONNECT; undefined until that arrives. */
  connect: IConnectPacket | undefined
  received: Packet[]
  send(...packets: Packet[]): void
  /** Sends any bytes, whether they are a packet or not. */
  sendRaw(bytes: Uint8Array | number[]): void
  /** Sends CONNACK, over MQTT 5 with a Receive Maximum of 20. */
  accept(sessionPresent?: boolean): void
  /** Begins a new session, as `accept(false)` does, but its CONNACK is lost. */
  beginSession(): void
  /** As `send`, also while `hold` holds back what is sent. */
  sendNow(...packets: Packet[]): void
  /** Holds back what is sent until `flow`. */
  hold(): void
  flow(): void
  /** Closes the connection, without DISCONNECT. */
  close(): void
  /** Resolves once the connection is closed. */
  closed: Promise<unknown>
}

export interface ScriptedBroker {
  url: string
  port: number
  peers: Peer[]
  /** Closes all connections, and takes no more. */
  stop(): void
}

/** Called for each packet. Returns true when it has handled the packet; otherwise the broker answers as any does. */
export type Script = (packet: Packet, peer: Peer) => boolean | void

/**
 * A small broker over real sockets that handles each packet as the script says. All others it accepts and acknowledges
 * as the standard says, and it delivers no message. It ends with the test. The bridge's connection to its other replicas
 * is not among the peers, nor are those with which it finds out how messages are sent again.
 *
 * @param options `handlesMarkers: false` where the script sees the bridge's markers. By default it never does, and they
 *   are delivered as any broker does
 */
export async function startScriptedBroker(
  script: Script,
  { handlesMarkers = true, ...manners }: { handlesMarkers?: boolean } & MarkerManners = {},
): Promise<ScriptedBroker> {
  const markers = handlesMarkers ? new MarkerTopics(manners) : undefined
  const peers: Peer[] = []
  const sockets = new Set<Socket>()
  const sessions = new Set<string>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    const peer = createPeer(socket, (sessionPresent) => {
      if (keepsSession(peer.connect!)) sessions.add(peer.connect!.clientId)
      else sessions.delete(peer.connect!.clientId)
      markers?.accepted(peer, sessionPresent)
    })
    const answer = (packet: Packet): void => {
      if (packet.cmd === 'connect') return peer.accept(!packet.clean && sessions.has(packet.clientId))
      if (packet.cmd === 'disconnect' && packet.properties?.sessionExpiryInterval === 0) {
        sessions.delete(peer.connect!.clientId)
      }
      acknowledge(packet, peer)
    }
    peers.push(peer)
    socket.on('close', () => markers?.left(peer))
    const parse = parser()
    parse.on('packet', (packet) => {
      if (packet.cmd === 'connect') peer.connect = packet
      if (isRedeliveryTrial(peer)) {
        if (packet.cmd === 'connect') peers.splice(peers.indexOf(peer), 1)
        if (markers?.tryRedelivery(packet, peer) !== true) answer(packet)
        return
      }
      if (isCluster(peer)) {
        // The connection to other replicas, of which there are none. The script says only how it is connected to.
        if (packet.cmd !== 'connect') return answer(packet)
        peers.splice(peers.indexOf(peer), 1)
        if (script(packet, peer) !== true) answer(packet)
        return
      }
      if (markers?.handle(packet, peer)) return
      peer.received.push(packet)
      if (script(packet, peer) !== true) answer(packet)
    })
    parse.on('error', () => socket.destroy())
    socket.on('data', (chunk) => void parse.parse(chunk))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const closed = once(server, 'close')
  const stop = () => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  onTestFinished(async () => {
    stop()
    await closed
  })
  const { port } = server.address() as AddressInfo
  return { url: `mqtt://127.0.0.1:${port}`, port, peers, stop }
}

/** Whether this is one of the bridge's connections for publishing, by its client id. */
export function isPublisher(peer: Peer): boolean {
  return peer.connect?.clientId.includes('-publish-') === true
}

function isRedeliveryTrial(peer: Peer): boolean {
  return peer.connect?.clientId.includes('-redelivery-') === true
}

function isCluster(peer: Peer): boolean {
  return peer.connect?.clientId.endsWith('-cluster') === true
}

function createPeer(socket: Socket, onAccepted: (sessionPresent: boolean) => void): Peer {
  let held: Packet[] | undefined
  const peer: Peer = {
    connect: undefined,
    received: [],
    send(...packets) {
      if (held === undefined) peer.sendNow(...packets)
      else held.push(...packets)
    },
    sendNow(...packets) {
      // The bridge may have sent more before it sees that the connection is closed.
      if (socket.writableEnded) return
      const protocolVersion = peer.connect?.protocolVersion ?? 4
      socket.write(Buffer.concat(packets.map((packet) => generate(packet, { protocolVersion }))))
    },
    hold() {
      held ??= []
    },
    flow() {
      const packets = held
      held = undefined
      if (packets !== undefined) peer.sendNow(...packets)
    },
    sendRaw: (bytes) => void socket.write(Uint8Array.from(bytes)),
    accept(sessionPresent = false) {
      onAccepted(sessionPresent)
      const mqtt5 = peer.connect?.protocolVersion === 5
      peer.send({
        cmd: 'connack',
        sessionPresent,
        ...(mqtt5 ? { reasonCode: 0, properties: { receiveMaximum: 20 } } : { returnCode: 0 }),
      } as Packet)
    },
    beginSession: () => onAccepted(false),
    close: () => void socket.end(),
    // `once` of node:events would reject with an error of the socket.
    closed: new Promise((resolve) => socket.once('close', resolve)),
  }
  return peer
}

/** The topic of the bridge's markers: messages to itself that show what came before them. */
const MARKERS = 'causeway/marker/'
/** Counts down from here, so that it never is one of those that a script uses. */
const MARKER_ID_MAX = 65_000

const LATE_MS = 100
const ORDER_KEPT = 200

/** How the broker treats the retained message with which the bridge tries it out. */
interface MarkerManners {
  /** It comes a while after all else, or so many milliseconds; not at all while this returns false. */
  lateRetained?: boolean | number | (() => boolean)
  /**
   * `mixed`: of the messages with which the bridge tries out the order, each second one waits for the next.
   * `mixed-later`: so they do behind the first 200.
   */
  order?: 'kept' | 'mixed' | 'mixed-later'
  /** Called for each marker, before it is delivered; not for those that try out the order. */
  onMarker?: (from: Peer) => void
  /** Called when a connection subscribes to its markers, or to what it tries out with them, before SUBACK is sent. */
  onMarkersSubscribed?: (by: Peer) => void
  /** Whether PUBACK says that nobody subscribes. */
  saysNobodySubscribes?: boolean
  /** Whether it comes for filters with wildcards. */
  retainedWildcards?: boolean
  /**
   * What becomes of unacknowledged messages on the next connection, or `cut`: each next one is closed at once. Unless
   * set, the broker refuses to be tried.
   */
  redelivery?: 'marked' | 'unmarked' | 'lost' | 'cut'
  /** Called for each connection behind the first one that tries this. */
  onRedeliveryTried?: () => void
  /** The second connection of the trial of that is accepted only then. */
  redeliveryShows?: Promise<void>
}

/** Delivers markers and what the bridge tries out below their topic in order, as a broker does that does all of it. */
class MarkerTopics {
  readonly #manners: MarkerManners
  /** By client id: a session lasts until a CONNECT is accepted without it. */
  readonly #sessions = new Map<string, MarkerSession>()
  readonly #retained = new Map<string, IPublishPacket>()
  #heldBack: (() => void) | undefined
  #ofOrder = 0
  #trial: RedeliveryTrial | undefined
  #lastId = MARKER_ID_MAX

  constructor(manners: MarkerManners) {
    this.#manners = manners
  }

  /**
   * The session of the trial gets all that is published at the topic of the trial, first the one message that it left
   * unacknowledged, and then what came meanwhile. Returns true where it has handled the packet.
   */
  tryRedelivery(packet: Packet, peer: Peer): boolean {
    const { redelivery, redeliveryShows } = this.#manners
    const mqtt5 = peer.connect?.protocolVersion === 5
    if (packet.cmd !== 'connect') {
      if (packet.cmd === 'subscribe') this.#trial = { peer, kept: [] }
      return false
    }
    if (redelivery === undefined) {
      peer.send({
        cmd: 'connack',
        sessionPresent: false,
        ...(mqtt5 ? { reasonCode: 0x87 } : { returnCode: 5 }),
      } as Packet)
      peer.close()
      return true
    }
    const trial = packet.clean === true ? undefined : this.#trial
    if (trial === undefined) peer.accept(false)
    else if (redeliveryShows === undefined) this.#sendAgain(trial, peer)
    else void redeliveryShows.then(() => this.#sendAgain(trial, peer))
    return true
  }

  #sendAgain(trial: RedeliveryTrial, peer: Peer): void {
    const { redelivery, onRedeliveryTried } = this.#manners
    onRedeliveryTried?.()
    peer.accept(true)
    if (redelivery === 'cut') return peer.close()
    const [unacknowledged, ...kept] = trial.kept
    const send = (payload: Buffer | string, messageId: number, dup: boolean) =>
      peer.send({ cmd: 'publish', topic: trial.topic!, payload, qos: 1, retain: false, dup, messageId } as Packet)
    if (redelivery !== 'lost') send(unacknowledged!, 1, redelivery === 'marked')
    for (const payload of kept) send(payload, redelivery === 'lost' ? 1 : 2, false)
  }

  /** Returns true where it has handled the packet. */
  handle(packet: Packet, peer: Peer): boolean {
    const clientId = peer.connect?.clientId
    // A script that sends CONNACK by itself begins a session, too.
    if (clientId !== undefined && packet.cmd !== 'connect' && !this.#sessions.has(clientId)) this.accepted(peer, false)
    const session = this.#sessions.get(clientId ?? '')
    if (session !== undefined && session.peer === undefined && packet.cmd !== 'connect') {
      // What the script sends with CONNACK came before the markers that waited.
      session.peer = peer
      for (const send of session.waiting.splice(0)) send(peer)
    }
    if (packet.cmd === 'publish' && packet.topic.startsWith(MARKERS)) {
      if (!packet.topic.endsWith('/order')) this.#manners.onMarker?.(peer)
      if (packet.retain && packet.payload.length > 0) this.#retained.set(packet.topic, packet)
      else if (packet.retain) this.#retained.delete(packet.topic)
      const isForNobody = ![...this.#sessions.values()].some(({ filters }) =>
        [...filters.keys()].some((filter) => matches(filter, packet.topic)),
      )
      const reasonCode = this.#manners.saysNobodySubscribes && isForNobody ? 0x10 : 0
      peer.send({ cmd: 'puback', messageId: packet.messageId!, reasonCode })
      if (packet.topic.endsWith('/redelivery') && this.#trial !== undefined) {
        this.#trial.topic = packet.topic
        this.#trial.kept.push(packet.payload)
        if (this.#trial.kept.length === 1) this.#trial.peer.send({ ...packet, messageId: 1, properties: {} } as Packet)
      }
      for (const { peer: other, filters, waiting } of this.#sessions.values()) {
        for (const [filter, id] of filters) {
          if (!matches(filter, packet.topic)) continue
          const send = (to: Peer): void => this.#send(to, packet, false, id)
          const isOfOrder = packet.topic.endsWith('/order')
          if (isOfOrder) this.#ofOrder += 1
          const { order = 'kept' } = this.#manners
          const mixes = order === 'mixed' || (order === 'mixed-later' && this.#ofOrder > ORDER_KEPT)
          if (mixes && isOfOrder && this.#heldBack === undefined) {
            this.#heldBack = () => other && send(other)
            continue
          }
          if (other === undefined) waiting.push(send)
          else send(other)
          this.#heldBack?.()
          this.#heldBack = undefined
        }
      }
    } else if (packet.cmd === 'subscribe' && packet.subscriptions[0]!.topic.startsWith(MARKERS)) {
      const { topic } = packet.subscriptions[0]!
      const identifier = packet.properties?.subscriptionIdentifier
      session!.filters.set(topic, identifier)
      this.#manners.onMarkersSubscribed?.(peer)
      peer.send({ cmd: 'suback', messageId: packet.messageId!, granted: [1] })
      const { lateRetained = false, retainedWildcards = true } = this.#manners
      for (const [name, retained] of this.#retained) {
        if (!matches(topic, name) || (topic !== name && !retainedWildcards)) continue
        const send = (): void => this.#send(peer, retained, true, identifier)
        if (lateRetained === false) send()
        else if (typeof lateRetained === 'number') setTimeout(send, lateRetained)
        else if (lateRetained === true || lateRetained()) setTimeout(send, LATE_MS)
      }
    } else if (packet.cmd === 'unsubscribe' && String(packet.unsubscriptions[0]).startsWith(MARKERS)) {
      session!.filters.delete(String(packet.unsubscriptions[0]))
      peer.send({ cmd: 'unsuback', messageId: packet.messageId!, granted: [0] })
    } else return packet.cmd === 'puback' && packet.messageId! > this.#lastId && packet.messageId! <= MARKER_ID_MAX
    return true
  }

  accepted({ connect }: Peer, sessionPresent: boolean): void {
    const { clientId } = connect!
    if (sessionPresent && this.#sessions.has(clientId)) return
    this.#sessions.set(clientId, { peer: undefined, filters: new Map(), waiting: [] })
  }

  left(peer: Peer): void {
    for (const session of this.#sessions.values()) if (session.peer === peer) session.peer = undefined
  }

  #send(peer: Peer, { topic, payload }: IPublishPacket, retain: boolean, subscriptionIdentifier?: number): void {
    const messageId = (this.#lastId -= 1) + 1
    const properties = subscriptionIdentifier === undefined ? {} : { subscriptionIdentifier }
    peer.send({ cmd: 'publish', topic, payload, qos: 1, retain, dup: false, messageId, properties } as Packet)
  }
}

interface RedeliveryTrial {
  peer: Peer
  topic?: string
  kept: (Buffer | string)[]
}

interface MarkerSession {
  /** Undefined while the client is away, or has only just come back. */
  peer: Peer | undefined
  /** With their subscription identifiers. */
  filters: Map<string, number | undefined>
  waiting: ((peer: Peer) => void)[]
}

function matches(filter: string, topic: string): boolean {
  return filter === topic || (filter.endsWith('/+') && topic.slice(0, topic.lastIndexOf('/')) === filter.slice(0, -2))
}

function keepsSession({ protocolVersion, clean, properties }: IConnectPacket): boolean {
  return protocolVersion === 5 ? (properties?.sessionExpiryInterval ?? 0) > 0 : clean === false
}

function acknowledge(packet: Packet, peer: Peer): void {
  switch (packet.cmd) {
    case 'publish':
      if (packet.qos === 1) peer.send({ cmd: 'puback', messageId: packet.messageId! })
      if (packet.qos === 2) peer.send({ cmd: 'pubrec', messageId: packet.messageId! })
      return
    case 'pubrel':
      return peer.send({ cmd: 'pubcomp', messageId: packet.messageId! })
    case 'subscribe':
      return peer.send({
        cmd: 'suback',
        messageId: packet.messageId!,
        granted: packet.subscriptions.map(({ qos }) => qos),
      })
    case 'unsubscribe':
      return peer.send({ cmd: 'unsuback', messageId: packet.messageId!, granted: packet.unsubscriptions.map(() => 0) })
    case 'pingreq':
      return peer.send({ cmd: 'pingresp' })
    case 'disconnect':
      return peer.close()
  }
}
