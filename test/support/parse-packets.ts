import { type Packet, parser } from 'mqtt-packet'

/** What mqtt-packet makes of the bytes. */
export function parsePackets(bytes: Buffer, protocolVersion: 4 | 5): Packet[] {
  const packets: Packet[] = []
  const parsing = parser({ protocolVersion })
  parsing.on('packet', (packet) => packets.push(packet))
  parsing.on('error', (error) => {
    throw error
  })
  parsing.parse(bytes)
  return packets
}
