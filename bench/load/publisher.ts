import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { generate } from 'mqtt-packet'
import { answerCalls } from '../answer-calls.ts'
import { markedPayload, now, stamp } from './payload.ts'

/** Messages that a burst writes at once, before it checks whether the socket's buffer is full. */
const BURST = 200
const EXAMPLE = markedPayload(0)
/** The stamp is behind the mark. */
const STAMP_BEFORE_END = EXAMPLE.length - 1

let socket: Socket
/** The bytes that publish a payload to a topic. The payload is the last of them. */
let packet: (topic: string, payload: string) => Buffer
/** Those of each topic. What changes from message to message, the stamp, is written into a copy. */
const packets = new Map<string, Buffer>()
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

/** Writes all messages up to this one at once. To make each packet anew took three times as long. */
function write(topics: string[], until: number): void {
  if (until <= sent) return
  const copies: Buffer[] = []
  for (let index = sent; index < until; index += 1) copies.push(packetOf(topics[index % topics.length]!))
  const bytes = Buffer.concat(copies)
  let end = 0
  for (const { length } of copies) {
    end += length
    bytes.write(stamp(Math.floor(sent / topics.length)), end - STAMP_BEFORE_END, 'latin1')
    sent += 1
  }
  socket.write(bytes)
}

function packetOf(topic: string): Buffer {
  const known = packets.get(topic)
  if (known !== undefined) return known
  const made = packet(topic, EXAMPLE)
  packets.set(topic, made)
  return made
}
