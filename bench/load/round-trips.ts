import { once } from 'node:events'
import { connect } from 'node:net'
import { answerCalls } from '../answer-calls.ts'
import { measureRoundTrips, type Pace, type RoundTrips } from './pace.ts'
import { MARK, markedPayload } from './payload.ts'

answerCalls({
  /** The time from a POST to its event on a stream, several times. */
  async run({
    port,
    streamPort = port,
    path = '/subscribe',
    ...pace
  }: { port: number; streamPort?: number; path?: string } & Pace): Promise<RoundTrips> {
    const [reader, poster] = [
      connect(streamPort, '127.0.0.1').setNoDelay(true),
      connect(port, '127.0.0.1').setNoDelay(true),
    ]
    reader.write(`GET ${path}?topic=bench/latency HTTP/1.1\r\nhost: localhost\r\n\r\n`)
    await once(reader, 'data')
    poster.resume()
    return measureRoundTrips((index) => {
      const body = JSON.stringify({ topic: 'bench/latency', payload: markedPayload(index) })
      const event = new Promise<void>((resolve) => {
        reader.on('data', function look(chunk: Buffer) {
          if (!chunk.includes(MARK)) return
          reader.off('data', look)
          resolve()
        })
      })
      const type = 'content-type: application/json'
      poster.write(
        `POST /publish HTTP/1.1\r\nhost: localhost\r\n${type}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      )
      return event
    }, pace)
  },
})
