import { once } from 'node:events'
import { connect } from 'node:net'
import { generate, type IConnectPacket, type IPublishPacket, type Packet, parser } from 'mqtt-packet'
import { onTestFinished } from 'vitest'

type Answer<Command extends Packet['cmd']> = Extract<Packet, { cmd: Command }>

export interface RawMqtt {
  received: Packet[]
  send(...packets: Packet[]): void
  /** Waits for the next packet of this kind behind those already taken of it. */
  next<Command extends Packet['cmd']>(command: Command): Promise<Answer<Command>>
  /** Resolves once everything has come that the broker sent before it answered this. */
  settled(): Promise<void>
  /** The payloads of the PUBLISH packets so far. */
  payloads(): string[]
  publishes(): IPublishPacket[]
  /** Closes the connection, without DISCONNECT. */
  close(): void
  closed: Promise<unknown>
}

/** A connection on which only those packets are sent that a test sends. It ends with the test. */
export async function rawMqtt(url: string, options: Partial<IConnectPacket> = {}): Promise<RawMqtt> {
  const protocolVersion = options.protocolVersion ?? 5
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  socket.on('error', () => {})
  const closed = once(socket, 'close')
  const received: Packet[] = []
  const taken = new Map<string, number>()
  const waiting = new Set<() => void>()
  const parse = parser({ protocolVersion })
  parse.on('packet', (packet: Packet) => {
    received.push(packet)
    for (const check of waiting) check()
  })
  socket.on('data', (chunk) => void parse.parse(chunk))
  const send = (...packets: Packet[]) => {
    for (const packet of packets) socket.write(generate(packet, { protocolVersion }))
  }
  const publishes = () => received.filter((packet) => packet.cmd === 'publish')
  async function next<Command extends Packet['cmd']>(command: Command): Promise<Answer<Command>> {
    const at = taken.get(command) ?? 0
    taken.set(command, at + 1)
    return new Promise((resolve) => {
      const check = () => {
        const packet = received.filter(({ cmd }) => cmd === command)[at]
        if (packet === undefined) return
        waiting.delete(check)
        resolve(packet as Answer<Command>)
      }
      waiting.add(check)
      check()
    })
  }
  send({ cmd: 'connect', clientId: '', clean: true, keepalive: 0, ...options, protocolVersion, protocolId: 'MQTT' })
  return {
    received,
    send,
    next,
    async settled() {
      send({ cmd: 'pingreq' })
      await next('pingresp')
    },
    payloads: () => publishes().map(({ payload }) => String(payload)),
    publishes,
    close: () => socket.destroy(),
    closed,
  }
}
