import { connect } from 'node:net'
import { answerCalls } from '../answer-calls.ts'
import { countMarks, now } from './payload.ts'

export interface Joined {
  /** Seconds until the last reader had its first message. */
  first: number
  /** Seconds until the last reader had all of them. */
  all: number
  /** Megabytes that all readers got. */
  megabytes: number
}

/** Readers that all come at once. */
answerCalls({
  /** Opens `count` streams. Resolves when each has `each` messages. They stay open until the worker ends. */
  async join({
    port,
    path,
    count,
    each,
  }: {
    port: number
    path: string
    count: number
    each: number
  }): Promise<Joined> {
    const request = `GET ${path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n`
    const startedAt = now()
    let [firstAt, allAt, bytes] = [0, 0, 0]
    async function joinOnce(): Promise<void> {
      const socket = connect(port, '127.0.0.1').setNoDelay(true)
      socket.write(request)
      let messages = 0
      let head = ''
      await new Promise<void>((resolve, reject) => {
        socket.on('error', reject)
        socket.on('close', () => reject(new Error(`a stream ended after ${messages} messages: ${head}`)))
        socket.on('data', (chunk: Buffer) => {
          if (head === '') head = chunk.toString('latin1', 0, 500)
          bytes += chunk.length
          const before = messages
          messages += countMarks(chunk)
          if (before === 0 && messages > 0) firstAt = now()
          if (messages < each) return
          allAt = now()
          resolve()
        })
      })
    }
    await Promise.all(Array.from({ length: count }, joinOnce))
    return { first: (firstAt - startedAt) / 1e6, all: (allAt - startedAt) / 1e6, megabytes: bytes / 1e6 }
  },
})
