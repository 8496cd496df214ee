import { once } from 'node:events'
import net from 'node:net'
import { type IPublishPacket, generate, parser } from 'mqtt-packet'
import { onTestFinished } from 'vitest'

export interface FloodOptions {
  url: string
  topic: string | ((index: number) => string)
  payload?: Buffer | string
  properties?: IPublishPacket['properties']
  count: number
  qos?: 0 | 1
  retain?: boolean
  protocolVersion?: 4 | 5
  signal?: AbortSignal
}

let clients = 0

/**
 * Publishes the same message again and again, encoded once where its topic stays, so that the attacker is faster than
 * what it attacks. Resolves once the broker has acknowledged all; QoS 0 once they are written.
 */
export async function flood({
  url,
  topic,
  payload = 'x',
  properties,
  count,
  qos = 1,
  retain = false,
  protocolVersion = 5,
  signal,
}: FloodOptions): Promise<void> {
  const socket = net.connect({ port: Number(new URL(url).port), host: '127.0.0.1', noDelay: true })
  onTestFinished(() => void socket.destroy())
  socket.on('error', () => {})
  const parse = parser({ protocolVersion })
  socket.on('data', (chunk) => void parse.parse(chunk))
  const isOver = () => socket.destroyed || signal?.aborted === true
  const connected = once(parse, 'packet')
  clients += 1
  socket.write(
    generate(
      {
        cmd: 'connect',
        protocolId: 'MQTT',
        clientId: `flood-${process.pid}-${clients}`,
        protocolVersion,
        clean: true,
        keepalive: 0,
      },
      { protocolVersion },
    ),
  )
  await connected
  const encode = (name: string) =>
    generate(
      {
        cmd: 'publish',
        topic: name,
        payload,
        qos,
        retain,
        dup: false,
        messageId: 1,
        ...(protocolVersion === 5 && properties && { properties }),
      } as IPublishPacket,
      { protocolVersion },
    )
  const fixed = typeof topic === 'string' ? encode(topic) : undefined
  let acknowledged = 0
  let wake = () => {}
  parse.on('packet', (packet) => {
    if (packet.cmd === 'puback') acknowledged += 1
    wake()
  })
  socket.on('close', () => wake())
  for (let sent = 0; sent < count && !isOver(); sent += 1) {
    const packet = fixed ?? encode((topic as (index: number) => string)(sent))
    if (qos === 1) {
      const at = idOffset(packet)
      const id = Buffer.allocUnsafe(2)
      id.writeUInt16BE((sent % 65_535) + 1)
      socket.cork()
      socket.write(packet.subarray(0, at))
      socket.write(id)
      socket.write(packet.subarray(at + 2))
      process.nextTick(() => socket.uncork())
      // Mosquitto's Receive Maximum is 20.
      while (sent + 1 - acknowledged >= 20 && !isOver()) {
        await new Promise<void>((resolve) => {
          wake = resolve
          setTimeout(resolve, 100)
        })
      }
    } else if (!socket.write(packet)) {
      await Promise.race([once(socket, 'drain'), once(socket, 'close')])
    }
  }
  while (qos === 1 && acknowledged < count && !isOver()) {
    await new Promise<void>((resolve) => {
      wake = resolve
      setTimeout(resolve, 100)
    })
  }
  socket.end()
}

/** Where the packet identifier stands: behind the fixed header and the topic. */
function idOffset(packet: Buffer): number {
  let at = 1
  while (packet[at]! >= 0x80) at += 1
  at += 1
  return at + 2 + packet.readUInt16BE(at)
}

/** A megabyte of MQTT 5 user properties: a string of a property is at most 65,535 bytes. */
export const megabyteOfProperties = (): { userProperties: Record<string, string[]> } => ({
  userProperties: { x: Array.from({ length: 16 }, (_, index) => `${index}`.padEnd(65_000, 'p')) },
})
