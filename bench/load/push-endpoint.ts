import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { connectAsync, type MqttClient } from 'mqtt'
import { answerCalls } from '../answer-calls.ts'
import { markedPayload, now } from './payload.ts'

/** Messages on their way: enough for all requests, and for the broker never to be waited for. */
const OUTSTANDING = 1000
const TOPICS = 64

export interface Measured {
  /** Deliveries per second. */
  rate: number
  delivered: number
}

let received = 0
let publisher: MqttClient | undefined
let published = 0

function publishNext(): void {
  publisher!.publish(`bench/${published % TOPICS}`, markedPayload(published), { qos: 1 })
  published += 1
}

/** An endpoint that answers each POST with 204. It publishes the next message when one has arrived. */
answerCalls({
  async listen(): Promise<number> {
    const server = createServer((request, response) => {
      request.resume().once('end', () => {
        received += 1
        response.writeHead(204).end()
        if (publisher !== undefined) publishNext()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return (server.address() as AddressInfo).port
  },
  async feed({ url }: { url: string }): Promise<void> {
    publisher = await connectAsync(url, { protocolVersion: 5 })
    ;(publisher.stream as unknown as { setNoDelay(on: boolean): void }).setNoDelay(true)
    for (let count = 0; count < OUTSTANDING; count += 1) publishNext()
  },
  async measure({ seconds }: { seconds: number }): Promise<Measured> {
    const [before, startedAt] = [received, now()]
    await delay(seconds * 1000)
    const delivered = received - before
    return { rate: delivered / ((now() - startedAt) / 1e6), delivered }
  },
})
