import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { generate, type IConnectPacket, type Packet, parser } from 'mqtt-packet'
import { onTestFinished } from 'vitest'

export interface CuttingProxy {
  url: string
  /** How often it has cut a connection. */
  cuts: number
}

/**
 * Decides about each packet, `up` to the broker or `down` from it: whether to cut, before or after it is passed on, or to
 * drop it and go on.
 */
export type Cut = (
  direction: 'up' | 'down',
  packet: Packet,
  connect: IConnectPacket | undefined,
) => 'before' | 'behind' | 'drop' | undefined

/** Passes MQTT packets on, and cuts the connection before or after those that `cut` names. It ends with the test. */
export async function startCuttingProxy(target: string, cut: Cut): Promise<CuttingProxy> {
  const { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const broker = connect(Number(port), hostname)
    let connectPacket: IConnectPacket | undefined
    pass('up', client, broker)
    pass('down', broker, client)

    function pass(direction: 'up' | 'down', from: Socket, to: Socket): void {
      sockets.add(from)
      let over = false
      // The parser needs the protocol version, which only CONNECT has. The parser of the broker's side is created with
      // its first bytes, when CONNECT has passed.
      let parse: ReturnType<typeof parser> | undefined
      from.on('data', (chunk) => {
        parse ??= createParser()
        parse.parse(chunk)
      })
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })

      function createParser(): ReturnType<typeof parser> {
        const created = parser(connectPacket && { protocolVersion: connectPacket.protocolVersion ?? 4 })
        created.on('packet', (packet) => {
          if (over) return
          if (packet.cmd === 'connect') connectPacket = packet
          const place = cut(direction, packet, connectPacket)
          if (place === 'drop') return
          over = place !== undefined
          if (place !== 'before') to.write(generate(packet, { protocolVersion: connectPacket?.protocolVersion ?? 4 }))
          if (!over) return
          proxy.cuts += 1
          // A half-close: what was written still arrives.
          to.end()
          from.destroy()
        })
        return created
      }
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    const closed = once(server, 'close')
    server.close()
    for (const socket of sockets) socket.destroy()
    await closed
  })
  const proxy = { url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`, cuts: 0 }
  return proxy
}
