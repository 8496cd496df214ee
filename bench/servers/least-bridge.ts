import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { generate, type IPublishPacket, type Packet, parser } from 'mqtt-packet'
import { answerCalls } from '../answer-calls.ts'
import { listenBare, type Posted } from './bare-route.ts'

/** The default of CAUSEWAY_PUBLISH_CONNECTIONS. */
const CONNECTIONS = 2
/** How many unacknowledged messages Mosquitto accepts by default. */
const RECEIVE_MAXIMUM = 20

/** A connection that publishes. It writes all packets of one turn of the event loop at once, and handles no error. */
class LeastPublisher {
  readonly #socket: Socket
  readonly #waiting: { message: Posted; answer: () => void }[] = []
  readonly #sent: (() => void)[] = []
  #inFlight = 0
  #lastId = 0
  #packets: Buffer[] = []
  #leaving: (() => void)[] = []

  constructor(socket: Socket) {
    this.#socket = socket
    const packets = parser({ protocolVersion: 5 })
    packets.on('packet', (packet) => this.#received(packet))
    socket.on('data', (chunk) => packets.parse(chunk))
  }

  publish(message: Posted): Promise<void> {
    return new Promise((answer) => {
      this.#waiting.push({ message, answer })
      this.#pump()
    })
  }

  #received({ cmd, messageId }: Packet): void {
    if (cmd === 'pubrec') return this.#write({ cmd: 'pubrel', messageId: messageId! })
    if (cmd !== 'puback' && cmd !== 'pubcomp') return
    this.#inFlight -= 1
    this.#sent[messageId!]!()
    this.#pump()
  }

  #pump(): void {
    while (this.#waiting.length > 0 && this.#inFlight < RECEIVE_MAXIMUM) {
      const {
        message: { topic, payload, qos = 1 },
        answer,
      } = this.#waiting.shift()!
      const packet: IPublishPacket = {
        cmd: 'publish',
        topic,
        payload: Buffer.from(payload),
        qos,
        retain: false,
        dup: false,
      }
      if (qos === 0) this.#leaving.push(answer)
      else {
        packet.messageId = this.#lastId = (this.#lastId % 1000) + 1
        this.#sent[this.#lastId] = answer
        this.#inFlight += 1
      }
      this.#write(packet)
    }
  }

  #write(packet: Packet): void {
    if (this.#packets.length === 0) setImmediate(() => this.#flush())
    this.#packets.push(generate(packet, { protocolVersion: 5 }))
  }

  #flush(): void {
    this.#socket.write(Buffer.concat(this.#packets))
    this.#packets = []
    for (const answer of this.#leaving.splice(0)) answer()
  }
}

async function openPublisher(port: number, index: number): Promise<LeastPublisher> {
  const socket = connect(port, '127.0.0.1').setNoDelay(true)
  socket.write(
    generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 5,
      clean: true,
      clientId: `least-${process.pid}-${index}`,
      keepalive: 0,
    }),
  )
  // The first bytes are CONNACK.
  await once(socket, 'data')
  return new LeastPublisher(socket)
}

/**
 * The bare route, which here publishes before it answers and does nothing else: no limits, timeouts, reconnects,
 * metrics, credentials or checks. Its distance from the bare route is what MQTT costs in one thread. The bridge's
 * distance from it is what the bridge adds.
 */
answerCalls({
  async listen({ mqttPort }: { mqttPort: number }): Promise<number> {
    const publishers = await Promise.all(
      Array.from({ length: CONNECTIONS }, (_, index) => openPublisher(mqttPort, index)),
    )
    return listenBare((message) =>
      publishers[message.topic.charCodeAt(message.topic.length - 1) % CONNECTIONS]!.publish(message),
    )
  },
})
