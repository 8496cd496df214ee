import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { SmallPieces } from './small-pieces.ts'

/** How long, and how much of a body is read and thrown away behind its answer. Then the connection is cut. */
const DISCARD_MS = 30_000
const DISCARD_BYTES = 64 * 1024 * 1024
const CHECK_INTERVAL_MS = 100

/** Whether the headers of an HTTP/1.1 request announce a body that has not arrived completely. */
export function isBodyArriving({ headers, complete }: IncomingMessage): boolean {
  if (complete) return false
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/**
 * Begins to throw away a body that is refused, and cuts the connection where it comes in too many small pieces. To be
 * called before the answer is sent: Node would throw the body away itself, and count nothing.
 */
export function throwAway(request: IncomingMessage): void {
  const pieces = new SmallPieces()
  request.on('data', (piece: Buffer) => {
    if (pieces.add(piece)) request.socket.destroy()
  })
}

/**
 * Reads on behind an answer that was sent before the whole body was there, for a bounded time and size. Many clients
 * and proxies read no answer before they have sent all. Were the connection closed at once, TCP would reset it because
 * of the bytes that nobody read, and the reset may reach the client before the answer.
 */
export function discardRest(request: IncomingMessage): void {
  discard(request, request.socket, () => {})
}

/**
 * Does the same for an answer that is the last one of its connection. To be called before the answer is sent: Node
 * would close the connection in the same turn of the event loop in which the answer has left.
 */
export function lingerBeforeClose(request: IncomingMessage): void {
  const { socket } = request
  if (Object.hasOwn(socket, 'destroySoon')) return
  socket.destroySoon = () => {
    delete (socket as Partial<Socket>).destroySoon
    if (request.complete || socket.destroyed) return socket.destroySoon()
    // The client sees the end of the connection behind the answer, and can still send.
    socket.end()
    discard(request, socket, () => socket.destroySoon())
  }
}

function discard(request: IncomingMessage, socket: Socket, onComplete: () => void): void {
  const dueAt = performance.now() + DISCARD_MS
  const bytesDue = socket.bytesRead + DISCARD_BYTES
  const timer = setInterval(() => {
    if (performance.now() < dueAt && socket.bytesRead < bytesDue && !request.destroyed) return
    clearInterval(timer)
    socket.destroy()
  }, CHECK_INTERVAL_MS).unref()
  // Of the request, not of the socket: a connection may carry any number of requests, and keeps its listeners.
  request.once('close', () => {
    clearInterval(timer)
    if (request.complete) onComplete()
  })
}
