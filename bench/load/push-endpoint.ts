import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { answerCalls } from '../answer-calls.ts'
import { now } from './payload.ts'

export interface Measured {
  /** Deliveries per second. */
  rate: number
  delivered: number
  /** Since the endpoint began. */
  total: number
}

let received = 0

/** An endpoint that answers each POST with 204. */
answerCalls({
  async listen(): Promise<number> {
    const server = createServer((request, response) => {
      request.resume().once('end', () => {
        received += 1
        response.writeHead(204).end()
      })
    })
    // The bridges are frozen for some seconds.
    server.keepAliveTimeout = 60_000
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return (server.address() as AddressInfo).port
  },
  async measure({ seconds }: { seconds: number }): Promise<Measured> {
    const [before, startedAt] = [received, now()]
    await delay(seconds * 1000)
    const delivered = received - before
    return { rate: delivered / ((now() - startedAt) / 1e6), delivered, total: received }
  },
})
