import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { answerCalls } from '../answer-calls.ts'
import { markedPayload, now } from './payload.ts'

const LINES_A_WRITE = 200
const TOPICS = 64
const NEWLINE = '\n'.charCodeAt(0)

/** Sends one endless NDJSON batch, as fast as the bridge reads it or at `rate` messages a second. */
answerCalls({
  async run({
    port,
    warmUp,
    seconds,
    rate = Infinity,
  }: {
    port: number
    warmUp: number
    seconds: number
    rate?: number
  }): Promise<object> {
    const block = Array.from(
      { length: LINES_A_WRITE },
      (_, index) => `${JSON.stringify({ topic: `bench/${index % TOPICS}`, payload: markedPayload(index), qos: 1 })}\n`,
    ).join('')
    const post = request({
      host: '127.0.0.1',
      port,
      path: '/publish/batch',
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      agent: false,
    })
    post.setNoDelay(true)
    let answered = 0
    let failed = 0
    let isOver = false
    post.on('response', (response: IncomingMessage) => {
      response.on('data', (chunk: Buffer) => {
        for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, at + 1)) answered += 1
        if (chunk.includes('"problem"')) failed += 1
      })
    })
    async function write(): Promise<void> {
      while (!isOver) {
        if (!post.write(block)) await once(post, 'drain')
        // Gives the event loop time to read results.
        await delay(rate === Infinity ? 0 : (LINES_A_WRITE / rate) * 1000)
      }
    }
    const writing = write()
    await delay(warmUp * 1000)
    const [before, startedAt] = [answered, now()]
    await delay(seconds * 1000)
    const perSecond = (answered - before) / ((now() - startedAt) / 1e6)
    isOver = true
    await writing
    post.end()
    await once(post, 'close')
    return { rate: perSecond, failed }
  },
})
