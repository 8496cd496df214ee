import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { rawProblem } from '../message/problem.ts'

interface Pipeline {
  /** The response to the latest request, or undefined once that request is received and answered completely. */
  latest: ServerResponse | undefined
  /** Number of requests that wait for an earlier one to be answered. */
  waiting: number
}

/** Most requests that may wait on one connection. Each takes memory until it is answered; real clients send a few. */
const MAX_WAITING = 100

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
    if (pipeline === undefined) this.#pipelines.set(socket, { latest: response, waiting: 0 })
    else {
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
    earlier.once('close', () => {
      pipeline.waiting -= 1
      // There is still no socket where the earlier answer was the last one on this connection.
      if (response.socket !== null && !response.socket.destroyed) proceed()
    })
  }

  /** To be called after each answer. Otherwise an idle connection would keep its last request in memory. */
  finish(response: ServerResponse): void {
    const pipeline = this.#pipelines.get(response.req.socket)
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
