import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { generate, type Packet } from 'mqtt-packet'
import { answerCalls } from '../answer-calls.ts'
import { markedPayload, now } from './payload.ts'

/** Messages on their way: enough for all requests, and for the broker never to be waited for. */
const OUTSTANDING = 1000
/** Published in one write. With MQTT.js the publisher would take more of the processor than the bridge. */
const BURST = 100
const TOPICS = 64
const PACKET_IDS = 60_000

export interface Measured {
  /** Deliveries per second. */
  rate: number
  delivered: number
}

let received = 0
let publisher: Socket | undefined
let published = 0

function publishBurst(): void {
  const packets = Array.from({ length: BURST }, () => {
    published += 1
    const packet: Packet = {
      cmd: 'publish',
      topic: `bench/${published % TOPICS}`,
      payload: markedPayload(published),
      qos: 1,
      messageId: 1 + (published % PACKET_IDS),
      dup: false,
      retain: false,
    }
    return generate(packet)
  })
  publisher!.write(Buffer.concat(packets))
}

/** An endpoint that answers each POST with 204. It publishes the next messages when some have arrived. */
answerCalls({
  async listen(): Promise<number> {
    const server = createServer((request, response) => {
      request.resume().once('end', () => {
        received += 1
        response.writeHead(204).end()
        if (publisher !== undefined && published - received <= OUTSTANDING - BURST) publishBurst()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return (server.address() as AddressInfo).port
  },
  async feed({ url }: { url: string }): Promise<void> {
    publisher = connect(Number(new URL(url).port), '127.0.0.1').setNoDelay(true)
    publisher.write(generate({ cmd: 'connect', clientId: 'bench-publisher', protocolId: 'MQTT', protocolVersion: 4 }))
    // CONNACK, and later PUBACKs, which nobody waits for.
    await once(publisher.resume(), 'data')
    for (let count = 0; count < OUTSTANDING; count += BURST) publishBurst()
  },
  async measure({ seconds }: { seconds: number }): Promise<Measured> {
    const [before, startedAt] = [received, now()]
    await delay(seconds * 1000)
    const delivered = received - before
    return { rate: delivered / ((now() - startedAt) / 1e6), delivered }
  },
})
