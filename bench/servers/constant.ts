import { EventEmitter } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { markedPayload } from '../load/payload.ts'
import { answerCalls } from '../answer-calls.ts'

const BODY = '{"topic":"bench/0","qos":1,"reasonCode":0,"reason":"Success","matchedSubscribers":true}'
const ANSWER = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${BODY.length}\r\n\r\n${BODY}`,
)
const STREAM_HEAD = 'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n'
const RETAINED = 'GET /retained'
const begin = new EventEmitter().setMaxListeners(0)

/**
 * Does as little as possible, so that the load generators reach their own limit. It answers each POST with the same
 * response. On each GET it writes, after `begin`, the same events again and again, as fast as they are read; on
 * `GET /retained` it writes so many events at once.
 */
answerCalls({
  async listen(options?: { retained: number }): Promise<number> {
    const events = Buffer.concat(Array.from({ length: 256 }, (_, sequence) => event(sequence)))
    const retained = Buffer.concat(Array.from({ length: options?.retained ?? 0 }, (_, sequence) => event(sequence)))
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.on('data', (request) => {
        if (request[0] === 'P'.charCodeAt(0)) socket.write(ANSWER)
        else {
          socket.write(STREAM_HEAD)
          if (request.toString('latin1', 0, RETAINED.length) === RETAINED) return void socket.write(retained)
          begin.once('begin', () => stream(socket, events))
        }
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 4096, resolve))
    return (server.address() as AddressInfo).port
  },
  /**
   * Begins to write events on all open streams. Before that there are none, because they would slow down the opening.
   */
  begin(): void {
    begin.emit('begin')
  },
})

function event(sequence: number): Buffer {
  const data = { topic: 'bench/0', payload: markedPayload(sequence), encoding: 'utf8', qos: 0, retain: false }
  return Buffer.from(`id: 3f9c2ab41d07-${sequence}\ndata: ${JSON.stringify(data)}\n\n`)
}

function stream(socket: Socket, events: Buffer): void {
  const more = (): void => {
    if (socket.write(events)) setImmediate(more)
  }
  socket.on('drain', more)
  more()
}
