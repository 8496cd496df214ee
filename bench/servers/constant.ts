import { EventEmitter } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { markedPayload } from '../load/payload.ts'
import { answerCalls } from '../answer-calls.ts'

const BODY = '{"topic":"bench/0","qos":1,"reasonCode":0,"reason":"Success","matchedSubscribers":true}'
const ANSWER = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${BODY.length}\r\n\r\n${BODY}`,
)
const STREAM_HEAD = 'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n'
const begin = new EventEmitter().setMaxListeners(0)

/**
 * Does as little as can be, so that what the load generators reach on it is their own ceiling: a constant answer to
 * each POST, and to each GET, once told to begin, the same joined events for as long and as fast as they are read.
 */
answerCalls({
  async listen(): Promise<number> {
    const events = Buffer.concat(Array.from({ length: 256 }, (_, sequence) => event(sequence)))
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.on('data', (request) => {
        if (request[0] === 'P'.charCodeAt(0)) socket.write(ANSWER)
        else {
          socket.write(STREAM_HEAD)
          begin.once('begin', () => stream(socket, events))
        }
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 4096, resolve))
    return (server.address() as AddressInfo).port
  },
  /** Begins the events of all streams that are open: those that were under way would slow down the opening of the others. */
  begin(): void {
    begin.emit('begin')
  },
})

function event(sequence: number): Buffer {
  return Buffer.from(
    `id: 3f9c2ab41d07-${sequence}\ndata: {"topic":"bench/0","payload":"${markedPayload(sequence)}","encoding":"utf8","qos":0,"retain":false}\n\n`,
  )
}

function stream(socket: Socket, events: Buffer): void {
  const more = (): void => {
    if (socket.write(events)) setImmediate(more)
  }
  socket.on('drain', more)
  more()
}
