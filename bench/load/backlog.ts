import { once } from 'node:events'
import { connect } from 'node:net'
import { generate, type Packet } from 'mqtt-packet'
import { answerCalls } from '../answer-calls.ts'
import { markedPayload } from './payload.ts'

/** Messages on their way at the same time, and how many are written at once. */
const OUTSTANDING = 1000
const BURST = 100
const TOPICS = 64
const PACKET_IDS = 60_000
/** Of MQTT 3.1.1. */
const PUBACK_BYTES = 4

/** Publishes at QoS 1, without MQTT.js, which would take longer than the broker. */
answerCalls({
  /** Publishes so many messages, to each of 64 topics in turn. Resolves once the broker has acknowledged all. */
  async fill({ url, messages }: { url: string; messages: number }): Promise<void> {
    const socket = connect(Number(new URL(url).port), '127.0.0.1').setNoDelay(true)
    socket.write(generate({ cmd: 'connect', clientId: 'bench-publisher', protocolId: 'MQTT', protocolVersion: 4 }))
    await once(socket, 'data')
    let published = 0
    let acknowledgedBytes = 0
    await new Promise<void>((resolve, reject) => {
      function publishMore(): void {
        const acknowledged = acknowledgedBytes / PUBACK_BYTES
        if (acknowledged === messages) return resolve()
        while (published < messages && published - acknowledged <= OUTSTANDING - BURST) {
          const count = Math.min(BURST, messages - published)
          const packets = Array.from({ length: count }, () => generate(publishPacket((published += 1))))
          socket.write(Buffer.concat(packets))
        }
      }
      socket.on('data', ({ length }) => {
        acknowledgedBytes += length
        publishMore()
      })
      socket.once('close', () => reject(new Error('the broker closed the connection')))
      publishMore()
    })
    socket.end()
  },
})

function publishPacket(sequence: number): Packet {
  return {
    cmd: 'publish',
    topic: `bench/${sequence % TOPICS}`,
    payload: markedPayload(sequence),
    qos: 1,
    messageId: 1 + (sequence % PACKET_IDS),
    dup: false,
    retain: false,
  }
}
