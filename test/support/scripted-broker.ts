import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { generate, type IConnectPacket, type Packet, parser } from 'mqtt-packet'
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
  /** Closes the connection, without DISCONNECT. */
  close(): void
}

export interface ScriptedBroker {
  url: string
  port: number
  peers: Peer[]
  /** Closes all connections, and takes no more. */
  stop(): void
}

/** Called for each packet. Returns true when it has handled the packet; otherwise `answer` below does. */
export type Script = (packet: Packet, peer: Peer) => boolean | void

/**
 * A small broker over real sockets that handles each packet as the script says. All others it accepts and acknowledges
 * as the standard says, and it delivers no message. It ends with the test.
 */
export async function startScriptedBroker(script: Script): Promise<ScriptedBroker> {
  const peers: Peer[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    const peer = createPeer(socket)
    peers.push(peer)
    const parse = parser()
    parse.on('packet', (packet) => {
      if (packet.cmd === 'connect') peer.connect = packet
      peer.received.push(packet)
      if (script(packet, peer) !== true) answer(packet, peer)
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

function createPeer(socket: Socket): Peer {
  const peer: Peer = {
    connect: undefined,
    received: [],
    send(...packets) {
      const protocolVersion = peer.connect?.protocolVersion ?? 4
      socket.write(Buffer.concat(packets.map((packet) => generate(packet, { protocolVersion }))))
    },
    sendRaw: (bytes) => void socket.write(Uint8Array.from(bytes)),
    accept(sessionPresent = false) {
      const mqtt5 = peer.connect?.protocolVersion === 5
      peer.send({
        cmd: 'connack',
        sessionPresent,
        ...(mqtt5 ? { reasonCode: 0, properties: { receiveMaximum: 20 } } : { returnCode: 0 }),
      } as Packet)
    },
    close: () => void socket.end(),
  }
  return peer
}

function answer(packet: Packet, peer: Peer): void {
  switch (packet.cmd) {
    case 'connect':
      return peer.accept(!packet.clean)
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
