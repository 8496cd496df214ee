import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { answerCalls } from '../answer-calls.ts'
import { percentile } from '../statistics.ts'
import { markedPayload, now } from './payload.ts'

interface Options {
  port: number
  connections: number
  qos: 0 | 1 | 2
  /** Seconds, unless `requests` says when it is over. */
  warmUp?: number
  seconds?: number
  /** How many requests there are in all. */
  requests?: number
  /** Highest rate of all connections together, in requests per second. */
  rate?: number
}

const HEAD_END = Buffer.from('\r\n\r\n')

/** On each connection posts a message, waits for the response, and posts the next. */
answerCalls({
  async run({
    port,
    connections,
    qos,
    warmUp = 0,
    seconds = Infinity,
    requests = Infinity,
    rate = Infinity,
  }: Options): Promise<object> {
    const startedAt = now()
    const countFrom = startedAt + warmUp * 1e6
    const until = countFrom + seconds * 1e6
    const latencies: number[] = []
    let failed = 0
    let answered = 0
    let begun = 0

    async function post(index: number): Promise<void> {
      const socket = connect(port, '127.0.0.1').setNoDelay(true)
      await once(socket, 'connect')
      const body = JSON.stringify({ topic: `bench/${index}`, payload: markedPayload(index), qos })
      const type = 'content-type: application/json'
      const request = Buffer.from(
        `POST /publish HTTP/1.1\r\nhost: localhost\r\n${type}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      )
      await new Promise<void>((resolve) => exchange(socket, request, resolve))
      socket.destroy()
    }
    function exchange(socket: Socket, request: Buffer, done: () => void): void {
      let sentAt = now()
      let answer: Buffer = Buffer.alloc(0)
      const next = (): void => {
        if (begun >= requests) return done()
        begun += 1
        sentAt = now()
        socket.write(request)
      }
      const paceUs = (connections / rate) * 1e6
      socket.once('close', done)
      socket.on('data', (chunk) => {
        answer = answer.length === 0 ? chunk : Buffer.concat([answer, chunk])
        const length = lengthOf(answer)
        if (length === undefined || answer.length < length) return
        const at = now()
        answered += 1
        // The first digit of the status is `2` for 200 and 202.
        if (answer[9] !== 0x32) failed += 1
        else if (at >= countFrom && at < until) latencies.push(at - sentAt)
        answer = answer.subarray(length)
        if (at >= until) done()
        else if (paceUs > 0) setTimeout(next, Math.max(0, (sentAt + paceUs - at) / 1000))
        else next()
      })
      next()
    }

    await Promise.all(Array.from({ length: connections }, (_, index) => post(index)))
    return {
      rate: latencies.length / seconds,
      answered,
      failed,
      p50: percentile(latencies, 0.5) / 1000,
      p99: percentile(latencies, 0.99) / 1000,
    }
  },
})

/** The length of the whole response in bytes; undefined until its headers are complete. */
function lengthOf(answer: Buffer): number | undefined {
  const end = answer.indexOf(HEAD_END)
  if (end < 0) return undefined
  return end + HEAD_END.length + Number(/\r\ncontent-length: (\d+)/i.exec(answer.toString('latin1', 0, end))![1])
}
