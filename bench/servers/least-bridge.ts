import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { generate, type IPublishPacket, type Packet, parser } from 'mqtt-packet'
import { answerCalls } from '../answer-calls.ts'
import { listenBare, type Posted } from './bare-route.ts'

/** The bridge's default. */
const CONNECTIONS = 2
/** What Mosquitto takes unacknowledged unless it is told otherwise. */
const RECEIVE_MAXIMUM = 20

/** One connection that publishes, all packets of a turn of the loop in one write, and takes it that all goes well. */
class LeastLane {
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

async function openLane(port: number, index: number): Promise<LeastLane> {
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
  // CONNACK.
  await once(socket, 'data')
  return new LeastLane(socket)
}

/**
 * The bare route that publishes before it answers, and nothing more: no limits, timeouts, reconnects, metrics, credentials
 * or checks. What is between it and the bare route is the price of MQTT in one thread; what is between the bridge and it is
 * what the bridge adds.
 */
answerCalls({
  async listen({ mqttPort }: { mqttPort: number }): Promise<number> {
    const queues = await Promise.all(Array.from({ length: CONNECTIONS }, (_, index) => openLane(mqttPort, index)))
    return listenBare((message) =>
      queues[message.topic.charCodeAt(message.topic.length - 1) % CONNECTIONS]!.publish(message),
    )
  },
})
