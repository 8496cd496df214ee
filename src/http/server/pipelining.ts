import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { rawProblem } from '../message/problem.ts'

interface Turn {
  /** The answer to the latest request, unless it was given and its request has ended. */
  latest: ServerResponse | undefined
  /** Requests behind one that is not answered. */
  waiting: number
}

/** More have no use for a client, and each takes memory for as long as the first one is not answered. */
const MAX_WAITING = 100

/**
 * Lets the requests of an HTTP/1.1 connection have their turn one after the other. Node would begin them all: what waits
 * for its answer's turn is never told that the connection is gone, and what it holds would be held for ever.
 */
export class Pipelining {
  readonly #turns = new WeakMap<Socket, Turn>()

  /** Calls `proceed` once the earlier requests are answered, or never, where the connection ends before. */
  begin({ socket, httpVersionMajor }: IncomingMessage, response: ServerResponse, proceed: () => void): void {
    if (httpVersionMajor === 2) return proceed()
    const turn = this.#turns.get(socket)
    if (turn === undefined) this.#turns.set(socket, { latest: response, waiting: 0 })
    else {
      const earlier = turn.latest
      turn.latest = response
      if (earlier === undefined) return proceed()
      // Of one read Node drops what is behind an Upgrade: this may be the middle of a request that looks like one.
      if (earlier.req.headers.upgrade !== undefined) return void socket.destroy()
      // An answer has no socket while it is behind another.
      if (response.socket === null) return this.#wait(turn, earlier, response, proceed)
    }
    proceed()
  }

  #wait(turn: Turn, earlier: ServerResponse, response: ServerResponse, proceed: () => void): void {
    if (turn.waiting >= MAX_WAITING) return void response.req.socket.destroy()
    turn.waiting += 1
    earlier.once('close', () => {
      turn.waiting -= 1
      // It has none for ever where the earlier answer was the connection's last.
      if (response.socket !== null && !response.socket.destroyed) proceed()
    })
  }

  /** To be called once an answer was given: an idle connection would hold on to it, and to its request. */
  end(response: ServerResponse): void {
    const turn = this.#turns.get(response.req.socket)
    if (turn?.latest === response && response.req.complete) turn.latest = undefined
  }

  /** Closes a connection over what came on it, and says why where that can be taken for no other request's answer. */
  refuse(socket: Socket, code: string | undefined): void {
    // More bytes behind what said it was the last request; the connection closes with its answer.
    if (code === 'HPE_CLOSED_CONNECTION') return
    const latest = this.#turns.get(socket)?.latest
    const isBrokenOff = latest?.req.complete === false && !latest.headersSent && latest.socket !== null
    const isBehind = latest === undefined || (latest.req.complete && latest.writableFinished)
    if (socket.writable && (isBrokenOff || isBehind)) socket.end(rawProblem(code))
    else socket.destroySoon()
  }
}
