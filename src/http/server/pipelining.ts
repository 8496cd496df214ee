import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { rawProblem } from '../message/problem.ts'

interface Pipeline {
  /** The response to the latest request, or undefined once that request is received and answered completely. */
  latest: ServerResponse | undefined
  /** Number of requests that wait for an earlier one to be answered. */
  waiting: number
  /** The response that is an event stream, or becomes one unless it is refused. It has no end. */
  stream: ServerResponse | undefined
}

/** Most requests that may wait on one connection. Each takes memory until it is answered; real clients send a few. */
const MAX_WAITING = 100
const STREAM_CHECK_MS = 50

/**
 * Handles the requests of an HTTP/1.1 connection one after the other. Node would start all pipelined requests at once,
 * and would never tell a response that waits behind another one that the connection is gone: whatever its handler
 * holds would be held for ever.
 */
export class Pipelining {
  readonly #pipelines = new WeakMap<Socket, Pipeline>()

  /**
   * Calls `proceed` once the earlier requests of the connection are answered. Never, where the connection ends before.
   */
  waitForEarlier({ socket, httpVersionMajor }: IncomingMessage, response: ServerResponse, proceed: () => void): void {
    if (httpVersionMajor === 2) return proceed()
    const pipeline = this.#pipelines.get(socket)
    if (pipeline === undefined) this.#pipelines.set(socket, { latest: response, waiting: 0, stream: undefined })
    else {
      // Behind the last answer nothing can be answered any more, and behind a stream it would wait for ever.
      const isTooLate = socket.writableEnded || hasBegun(pipeline.stream)
      if (isTooLate || socket.destroyed) return void socket.destroy()
      const earlier = pipeline.latest
      pipeline.latest = response
      if (earlier === undefined) return proceed()
      // Node drops what it read behind a request with Upgrade, so these bytes may start in the middle of a request.
      if (earlier.req.headers.upgrade !== undefined) return void socket.destroy()
      // Node gives a response its socket only once it is the first in the pipeline.
      if (response.socket === null) return this.#wait(pipeline, earlier, response, proceed)
    }
    proceed()
  }

  #wait(pipeline: Pipeline, earlier: ServerResponse, response: ServerResponse, proceed: () => void): void {
    if (pipeline.waiting >= MAX_WAITING) return void response.req.socket.destroy()
    pipeline.waiting += 1
    if (pipeline.stream !== undefined && pipeline.waiting === 1) this.#closeWhenBegun(pipeline.stream)
    earlier.once('close', () => {
      pipeline.waiting -= 1
      // There is still no socket where the earlier answer was the last one on this connection.
      if (response.socket !== null && !response.socket.destroyed) proceed()
    })
  }

  /** Closes the connection once the stream begins, which has something waiting behind it. It may still be refused. */
  #closeWhenBegun(stream: ServerResponse): void {
    const timer = setInterval(() => {
      if (hasBegun(stream)) stream.req.socket.destroy()
    }, STREAM_CHECK_MS).unref()
    stream.once('close', () => clearInterval(timer))
  }

  /** Says that this response may become an event stream. Whatever comes behind one closes both. */
  beginStream({ socket, httpVersionMajor }: IncomingMessage, response: ServerResponse): void {
    const pipeline = httpVersionMajor === 2 ? undefined : this.#pipelines.get(socket)
    if (pipeline !== undefined) pipeline.stream = response
  }

  isStream(socket: Socket): boolean {
    return this.#pipelines.get(socket)?.stream !== undefined
  }

  /** Whether the connection has answered all that it was asked. */
  isIdle(socket: Socket): boolean {
    return this.#pipelines.get(socket)?.latest === undefined
  }

  /** To be called after each answer. Otherwise an idle connection would keep its last request in memory. */
  finish(response: ServerResponse): void {
    const pipeline = this.#pipelines.get(response.req.socket)
    if (pipeline?.stream === response) pipeline.stream = undefined
    if (pipeline?.latest === response && response.req.complete) pipeline.latest = undefined
  }

  /**
   * Closes a connection on which something arrived that is no valid request. Answers with a problem document, but only
   * where the client cannot take it for the answer to another request.
   * @param code of Node's error
   */
  closeWithProblem(socket: Socket, code: string | undefined): void {
    // Bytes behind a request that said `Connection: close`. The connection closes with that request's answer.
    if (code === 'HPE_CLOSED_CONNECTION') return
    const latest = this.#pipelines.get(socket)?.latest
    /** The fault is in the latest request, which is the first in the pipeline and not answered. */
    const isInLatest = latest?.req.complete === false && !latest.headersSent && latest.socket !== null
    /** The fault is behind the latest request, which is answered. */
    const isAfterLatest = latest === undefined || (latest.req.complete && latest.writableFinished)
    if (socket.writable && (isInLatest || isAfterLatest)) socket.end(rawProblem(code))
    else socket.destroySoon()
  }
}

function hasBegun(stream: ServerResponse | undefined): boolean {
  return stream?.headersSent === true && stream.statusCode === 200
}
