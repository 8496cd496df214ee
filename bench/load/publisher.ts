import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { generate } from 'mqtt-packet'
import { answerCalls } from '../answer-calls.ts'
import { markedPayload, now } from './payload.ts'

/** Messages that a burst writes at once, before it checks whether the socket's buffer is full. */
const BURST = 200

let socket: Socket
/** The bytes that publish a payload to a topic. */
let packet: (topic: string, payload: string) => Buffer
let sent = 0

/** Publishes to each of the topics in turn, over MQTT at QoS 0 or to nchan over HTTP. */
answerCalls({
  async connectMqtt({ port }: { port: number }): Promise<void> {
    socket = await dial(port)
    packet = (topic, payload) => generate({ cmd: 'publish', topic, payload, qos: 0, retain: false, dup: false })
    socket.write(
      generate({
        cmd: 'connect',
        protocolId: 'MQTT',
        protocolVersion: 4,
        clean: true,
        clientId: `bench-${process.pid}`,
        keepalive: 0,
      }),
    )
    await once(socket, 'data')
  },
  async connectNchan({ port }: { port: number }): Promise<void> {
    socket = await dial(port)
    socket.resume()
    packet = (topic, payload) =>
      Buffer.from(
        `POST /pub/${topic} HTTP/1.1\r\nhost: localhost\r\ncontent-length: ${payload.length}\r\n\r\n${payload}`,
      )
  },
  /** Publishes at `rate` messages per second. Resolves with how many were sent and how long it took. */
  async steadily({
    topics,
    rate,
    seconds,
  }: {
    topics: string[]
    rate: number
    seconds: number
  }): Promise<{ sent: number; seconds: number }> {
    const count = Math.max(1, Math.round((rate * seconds) / topics.length)) * topics.length
    const startedAt = now()
    sent = 0
    while (sent < count) {
      write(topics, Math.min(count, Math.ceil(((now() - startedAt) / 1e6) * rate)))
      await delay(1)
    }
    return { sent, seconds: (now() - startedAt) / 1e6 }
  },
  /** Publishes `count` messages as fast as the socket accepts them. */
  async burst({ topics, count }: { topics: string[]; count: number }): Promise<void> {
    sent = 0
    while (sent < count) {
      write(topics, Math.min(count, sent + BURST))
      if (socket.writableNeedDrain) await once(socket, 'drain')
    }
  },
})

async function dial(port: number): Promise<Socket> {
  const dialled = connect(port, '127.0.0.1')
  await once(dialled, 'connect')
  return dialled.setNoDelay(true)
}

function write(topics: string[], until: number): void {
  socket.cork()
  for (; sent < until; sent += 1) {
    socket.write(packet(topics[sent % topics.length]!, markedPayload(Math.floor(sent / topics.length))))
  }
  socket.uncork()
}
