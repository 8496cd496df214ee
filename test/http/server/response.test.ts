import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { buffer, text } from 'node:stream/consumers'
import { expect, onTestFinished, test } from 'vitest'
import { ChunkFrames } from '../../../src/http/server/chunk-frames.ts'
import { Response } from '../../../src/http/server/response.ts'
import { parseAnswers } from '../../support/http-answers.ts'

type Handler = (response: Response) => void

/** A server whose answers are `Response`s, and how many times its sockets wrote several pieces at once. */
async function start(handle: Handler): Promise<{ port: number; gathered: () => number }> {
  let gathered = 0
  const server: Server = createServer({ ServerResponse: Response }, (_request, response) =>
    handle(response as Response),
  )
  server.on('connection', (socket: Socket) => {
    const writev = socket._writev!.bind(socket)
    socket._writev = (...pieces) => {
      gathered += 1
      writev(...pieces)
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void server.close())
  return { port: (server.address() as AddressInfo).port, gathered: () => gathered }
}

async function dial(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  await once(socket, 'connect')
  return socket
}

const REQUEST = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
const LAST_REQUEST = 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'

test('a head and a text are one piece, with its lines, on a connection that goes on', async () => {
  const { port, gathered } = await start((response) => {
    response.readyLines = 'x-ready: yes\r\n'
    response.sendDate = false
    response.writeHead(200, { 'content-length': '4' })
    response.end('é +')
  })
  const socket = await dial(port)
  let received = ''
  socket.setEncoding('utf8').on('data', (piece: string) => (received += piece))
  socket.write(REQUEST)
  await expect.poll(() => received).toContain('é +')
  socket.write(LAST_REQUEST)
  await once(socket, 'end')
  const head = 'HTTP/1.1 200 OK\r\nx-ready: yes\r\ncontent-length: 4\r\nConnection: '
  const answer = (connection: string) => `${head}${connection}\r\n\r\né +`
  expect(received).toBe(answer('keep-alive\r\nKeep-Alive: timeout=5') + answer('close'))
  expect(gathered()).toBe(0)
})

test.each<[string, string, Handler, string]>([
  [
    'no body to HEAD',
    LAST_REQUEST.replace('GET', 'HEAD'),
    (response) => void response.writeHead(200, { 'content-length': '1' }).end('a'),
    '',
  ],
  ['chunks', LAST_REQUEST, (response) => void response.writeHead(200).end('a'), '1\r\na\r\n0\r\n\r\n'],
  [
    'a text in another encoding',
    LAST_REQUEST,
    (response) => void response.writeHead(200, { 'content-length': '1' }).end('41', 'hex'),
    'A',
  ],
  [
    'bytes',
    LAST_REQUEST,
    (response) => void response.writeHead(200, { 'content-length': '1' }).end(Buffer.from('a')),
    'a',
  ],
  ['nothing', LAST_REQUEST, (response) => void response.writeHead(200, { 'content-length': '0' }).end(), ''],
  [
    'the rest of what was begun',
    LAST_REQUEST,
    (response) => {
      response.writeHead(200, { 'content-length': '2' }).write('a')
      response.end('b')
    },
    'ab',
  ],
])('%s', async (_name, request, handle, body) => {
  const { port } = await start(handle)
  const socket = await dial(port)
  socket.write(request)
  const answer = await text(socket)
  expect(answer.slice(answer.indexOf('\r\n\r\n') + 4)).toBe(body)
})

test('an answer is finished only once all of it has left', async () => {
  const length = 50_000_000
  const events: string[] = []
  const { port } = await start((response) => {
    response.writeHead(200, { 'content-length': length })
    response.on('finish', () => events.push('finish')).on('close', () => events.push('close'))
    response.end('x'.repeat(length))
    events.push('end')
  })
  const socket = await dial(port)
  socket.write(LAST_REQUEST)
  await expect.poll(() => events).toEqual(['end'])
  // Ten turns of the event loop in which nothing is read.
  for (let turn = 0; turn < 10; turn += 1) await new Promise(setImmediate)
  expect(events).toEqual(['end'])
  expect((await text(socket)).length).toBeGreaterThan(length)
  expect(events).toEqual(['end', 'finish', 'close'])
})

const PIECES = ['a', '', Buffer.from('é'), Buffer.alloc(0), Buffer.alloc(4096, 'b'), Buffer.alloc(70_000, 'c'), 'd']

test('pieces of a stream arrive as they are, in chunks without a fault', async () => {
  const same = Buffer.from('twice')
  const pieces = [...PIECES, same, same]
  const frames = new ChunkFrames()
  const { port } = await start((response) => {
    response.frames = frames
    response.writeHead(200)
    response.flushHeaders()
    for (const piece of pieces) response.write(piece)
    response.end()
  })
  const socket = await dial(port)
  socket.write(LAST_REQUEST)
  const [answer] = parseAnswers(await buffer(socket), ['GET'])
  expect(answer!.headers.get('transfer-encoding')).toBe('chunked')
  expect(answer!.body).toEqual(Buffer.concat(pieces.map((piece) => Buffer.from(piece))))
})

test('a small piece leaves as one, with its framing', async () => {
  const { port, gathered } = await start((response) => {
    response.frames = new ChunkFrames()
    response.writeHead(200).flushHeaders()
    setImmediate(() => response.write('a'))
  })
  const socket = await dial(port)
  let received = ''
  socket.setEncoding('utf8').on('data', (piece: string) => (received += piece))
  socket.write(LAST_REQUEST)
  await expect.poll(() => received).toMatch(/\r\n\r\n1\r\na\r\n$/)
  expect(gathered()).toBe(0)
})

test('a client of HTTP/1.0 gets no chunks', async () => {
  const { port } = await start((response) => {
    response.frames = new ChunkFrames()
    response.writeHead(200)
    response.write('a')
    response.end('b')
  })
  const socket = await dial(port)
  socket.write('GET / HTTP/1.0\r\n\r\n')
  expect(await text(socket)).toMatch(/\r\n\r\nab$/)
})

test('a full socket is told of, and so is that it takes more', async () => {
  const events: string[] = []
  const { port } = await start((response) => {
    response.frames = new ChunkFrames()
    response.writeHead(200).flushHeaders()
    const piece = Buffer.alloc(4000, 'a')
    response.on('drain', () => {
      events.push('drain')
      response.end('end', () => events.push('ended'))
    })
    while (response.write(piece));
    events.push(`full: ${response.writableNeedDrain}`)
  })
  const socket = await dial(port)
  socket.write(LAST_REQUEST)
  expect(await text(socket)).toMatch(/\r\n3\r\nend\r\n0\r\n\r\n$/)
  expect(events).toEqual(['full: true', 'drain', 'ended'])
})
