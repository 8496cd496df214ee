import type { Worker as Child } from 'node:cluster'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { AcceptorListening } from '../http/server/accepted-elsewhere.ts'
import { closeListener } from '../close-listener.ts'

/** The connections that Node's own `http.Server` lets wait in the kernel. */
const BACKLOG = 511
const TICKET_KEYS_BYTES = 48
const CHECK_MS = 5

interface Member {
  child: Child
  /** The connection that it was handed and has not taken yet. It gets the next one when it has. */
  handed: Socket | undefined
  /** It refuses what it gets. */
  isFull: boolean
}

/**
 * The port that the workers share. Each connection is handed to the worker that has been idle for longest, and is kept
 * here as well until that worker has taken it: if it ends before, another one gets the connection.
 *
 * Node's `cluster` could do this too, but it closes the port in any moment. Connections are then lost that wait in the
 * kernel or in the parent, or are on their way to a worker that takes no more. And a connection whose worker ends
 * before it has taken it stays open without an answer.
 */
export class SharedListener {
  readonly #ticketKeys = randomBytes(TICKET_KEYS_BYTES).toString('hex')
  /** All that may have a connection on its way to them. */
  readonly #members = new Map<Child, Member>()
  /** Those of them that get connections. */
  readonly #serving = new Set<Member>()
  /** Those of them that wait for one, longest first. */
  readonly #idle = new Set<Member>()
  /** What was accepted and waits for a worker. */
  readonly #waiting: Socket[] = []
  #taken = 0
  #opening: Promise<Server> | undefined
  #closing: Promise<void> | undefined

  /**
   * Opens the port, if it is not open.
   * @throws Error such as EADDRINUSE
   */
  async open(at: { host: string; port: number }): Promise<AcceptorListening> {
    await this.#closing
    this.#opening ??= this.#listen(at)
    try {
      const address = (await this.#opening).address() as AddressInfo
      return { address, ticketKeys: this.#ticketKeys }
    } catch (error) {
      this.#opening = undefined
      throw error
    }
  }

  /** Hands connections to a worker from now on. */
  add(child: Child): void {
    // It may have ended while the port was opened. Others may have waited for that too, and come in this turn.
    if (!child.isConnected()) return void setImmediate(() => this.#closeIfUnused())
    const member: Member = { child, handed: undefined, isFull: false }
    this.#members.set(child, member)
    this.#serving.add(member)
    this.#idle.add(member)
    // Not `exit`: what the worker has said before its end is read first. Not `disconnect`: it does not come while a
    // socket is on its way.
    child.process.once('close', () => this.#lose(member))
    this.#handOut()
  }

  /** A worker has taken what it was handed. */
  taken(child: Child): void {
    const member = this.#members.get(child)
    if (member === undefined) return
    member.handed?.destroy()
    member.handed = undefined
    if (this.#serving.has(member)) this.#idle.add(member)
    this.#handOut()
  }

  /** Leaves a worker out, unless all are full. */
  setFull(child: Child, isFull: boolean): void {
    const member = this.#members.get(child)
    if (member === undefined) return
    member.isFull = isFull
    this.#handOut()
  }

  /**
   * Hands no more connections to a worker. Resolves when it has taken all that it was handed. The port is closed before
   * the last worker leaves.
   */
  async remove(child: Child): Promise<void> {
    const member = this.#members.get(child)
    if (member === undefined) return
    if (this.#serving.size === 1 && this.#serving.has(member)) {
      this.#closing = this.#close()
      await this.#closing
      while (this.#waiting.length > 0) await delay(CHECK_MS)
    }
    this.#serving.delete(member)
    this.#idle.delete(member)
    while (member.handed !== undefined) await delay(CHECK_MS)
    this.#members.delete(child)
  }

  async #listen({ host, port }: { host: string; port: number }): Promise<Server> {
    // Nothing is read here, so the worker gets every byte.
    const server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
      this.#taken += 1
      socket.on('error', () => {})
      this.#waiting.push(socket)
      this.#handOut()
    })
    server.listen({ host, port, backlog: BACKLOG })
    await once(server, 'listening')
    return server
  }

  async #close(): Promise<void> {
    const server = await this.#opening!
    await closeListener(server, () => this.#taken)
    this.#opening = undefined
    this.#closing = undefined
  }

  #handOut(): void {
    const areAllFull = [...this.#serving].every(({ isFull }) => isFull)
    for (const member of this.#idle) {
      if (member.isFull && !areAllFull) continue
      const socket = this.#waiting.shift()
      if (socket === undefined) return
      this.#idle.delete(member)
      member.handed = socket
      member.child.send({ about: 'connection' }, socket, { keepOpen: true }, () => {})
    }
  }

  /** A worker has ended. */
  #lose(member: Member): void {
    if (member.handed !== undefined) this.#waiting.unshift(member.handed)
    member.handed = undefined
    this.#members.delete(member.child)
    this.#idle.delete(member)
    if (this.#serving.delete(member)) this.#closeIfUnused()
    this.#handOut()
  }

  /** Where nobody serves, callers are better refused than kept waiting. */
  #closeIfUnused(): void {
    if (this.#serving.size > 0) return
    for (const socket of this.#waiting.splice(0)) socket.destroy()
    void this.#opening?.then((server) => server.close())
    this.#opening = undefined
  }
}
