import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { answerCalls } from '../answer-calls.ts'
import { MARK, markedPayload, now } from './payload.ts'

answerCalls({
  /** Milliseconds from each POST to its event on a stream. */
  async run({ port, streamPort = port, path = '/subscribe', count, everyMs }: { port: number; streamPort?: number; path?: string; count: number; everyMs: number }): Promise<number[]> {
    const [reader, poster] = [connect(streamPort, '127.0.0.1').setNoDelay(true), connect(port, '127.0.0.1').setNoDelay(true)]
    reader.write(`GET ${path}?topic=bench/latency HTTP/1.1\r\nhost: localhost\r\n\r\n`)
    await once(reader, 'data')
    poster.resume()
    const latencies: number[] = []
    for (let index = 0; index < count; index += 1) {
      const body = JSON.stringify({ topic: 'bench/latency', payload: markedPayload(index) })
      const sentAt = now()
      const event = new Promise<void>((resolve) => {
        reader.on('data', function look(chunk: Buffer) {
          if (!chunk.includes(MARK)) return
          reader.off('data', look)
          resolve()
        })
      })
      poster.write(`POST /publish HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
      await event
      latencies.push((now() - sentAt) / 1000)
      await delay(everyMs)
    }
    return latencies
  },
})
