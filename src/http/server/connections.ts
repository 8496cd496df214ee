import type { EventEmitter } from 'node:events'
import { BlockList, isIPv6, Server, type Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import { networkOf } from '../../auth/network.ts'

export interface ConnectionsOptions {
  /** Most open connections of one IPv4 address or IPv6 /64 network; 0 for no limit. */
  perAddress: number
  /** Proxies, to which `perAddress` does not apply: addresses and networks, with commas. */
  trustProxy?: string | undefined
  /** Called for each connection that was closed because its address has too many. */
  onRefused(): void
}

/** The longest turn of the event loop in which the listener is closed at first. It is twice as long after each step. */
const SHORT_TURN_MS = 0.1
const STEP_MS = 150
/** After this time the listener is closed in any turn. */
const TURN_WAIT_MS = 1000
/** So many turns, and then a pause. */
const TURNS = 10
const PAUSE_MS = 2
/** A proxy that has a request connects and sends it. What brought nothing for so long was opened ahead of time. */
const FIRST_REQUEST_MS = 2000
const CHECK_MS = 20

/** The open connections of one listener. */
export class Connections {
  readonly #perAddress: number
  readonly #onRefused: () => void
  readonly #proxies = new BlockList()
  /** Each with the time at which it was taken. */
  readonly #sockets = new Map<Socket, number>()
  /** HTTP/1.1 over TLS, each with the time at which its handshake was over. */
  readonly #secured = new Map<Socket, number>()
  readonly #byNetwork = new Map<string, number>()
  /** How many there were so far. */
  #taken = 0

  constructor({ perAddress, trustProxy, onRefused }: ConnectionsOptions) {
    this.#perAddress = perAddress
    this.#onRefused = onRefused
    for (const network of trustProxy?.split(',') ?? []) {
      const [address = '', prefix] = network.trim().split('/')
      const family = isIPv6(address) ? 'ipv6' : 'ipv4'
      if (prefix === undefined) this.#proxies.addAddress(address, family)
      else this.#proxies.addSubnet(address, Number(prefix), family)
    }
  }

  /** Counts the connections of this server from now on, and refuses those beyond the limit of an address. */
  track(server: EventEmitter): void {
    server.on('connection', (socket: Socket) => {
      this.#taken += 1
      this.#remember(this.#sockets, socket)
      if (this.#perAddress > 0) this.#count(socket)
    })
    server.on('secureConnection', (socket: TLSSocket) => {
      if (socket.alpnProtocol !== 'h2') this.#remember(this.#secured, socket)
    })
  }

  /**
   * Takes no more connections, and waits until those that were taken have brought a request, or are so old that they
   * were opened ahead of time.
   *
   * The kernel accepts connections before we take them, and a proxy sends its request at once. Closing the listener
   * resets those that were not taken, and the proxy may not send a POST that it has sent to another replica. So the
   * listener is closed in a turn of the event loop that brought no connection and was short: there was hardly time for
   * one to come.
   *
   * A busy machine interrupts a process that has run for long, and during an interruption between that turn and the
   * closing more connections would come. So only the few turns behind a pause count.
   */
  async stopListening(server: Server): Promise<void> {
    // The first call of a function takes longer, because it is compiled.
    new Server().close()
    const startedMs = performance.now()
    for (let turn = 0; ; turn += 1) {
      if (turn % TURNS === 0) await delay(PAUSE_MS)
      const [taken, beganMs] = [this.#taken, performance.now()]
      await nextTurn()
      const nowMs = performance.now()
      const waitedMs = nowMs - startedMs
      if (this.#taken === taken && nowMs - beganMs < SHORT_TURN_MS * 2 ** (waitedMs / STEP_MS)) break
      if (waitedMs > TURN_WAIT_MS) break
    }
    // The `close` of an HTTP server would also close connections.
    Server.prototype.close.call(server)
    while (this.#isFirstRequestAwaited()) await pause()
  }

  /**
   * Closes the connections on which nothing ever arrived, as browsers and balancers open some ahead of time, and idle
   * ones over TLS. Node does not close either of them with the server. Goes on as long as there are connections, since
   * a TLS handshake may end later.
   *
   * @param isIdle whether a connection has answered all that it was asked
   */
  async closeUnused(isIdle: (socket: Socket) => boolean): Promise<void> {
    while (this.#sockets.size > 0) {
      for (const [socket, sinceMs] of this.#sockets) if (isUnused(socket, sinceMs)) socket.destroy()
      for (const [socket, sinceMs] of this.#secured) {
        if (socket.bytesRead > 0 ? isIdle(socket) : isUnused(socket, sinceMs)) socket.destroy()
      }
      await pause()
    }
  }

  #isFirstRequestAwaited(): boolean {
    for (const connections of [this.#sockets, this.#secured]) {
      for (const [socket, sinceMs] of connections) {
        if (socket.bytesRead === 0 && !isUnused(socket, sinceMs)) return true
      }
    }
    return false
  }

  #remember(sockets: Map<Socket, number>, socket: Socket): void {
    sockets.set(socket, performance.now())
    socket.once('close', () => sockets.delete(socket))
  }

  #count(socket: Socket): void {
    const { remoteAddress: address } = socket
    if (address === undefined || this.#proxies.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')) return
    const network = networkOf(address)
    const count = (this.#byNetwork.get(network) ?? 0) + 1
    if (count > this.#perAddress) {
      this.#onRefused()
      socket.destroy()
      return
    }
    this.#byNetwork.set(network, count)
    socket.once('close', () => {
      const left = this.#byNetwork.get(network)! - 1
      if (left === 0) this.#byNetwork.delete(network)
      else this.#byNetwork.set(network, left)
    })
  }
}

/** Nothing arrived on it for so long that nothing is on its way. */
function isUnused(socket: Socket, sinceMs: number): boolean {
  return socket.bytesRead === 0 && performance.now() - sinceMs >= FIRST_REQUEST_MS
}

/** Ends in a turn of the event loop that has read what had arrived. */
async function pause(): Promise<void> {
  await delay(CHECK_MS, undefined, { ref: false })
  await nextTurn()
}
