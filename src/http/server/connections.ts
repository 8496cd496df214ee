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

/** A turn of the event loop that took so long at most had nothing else to do. */
const QUIET_TURN_MS = 1
/** How long a quiet turn is waited for. */
const QUIET_MAX_MS = 1000
/** How long a new connection may take to bring its first request. */
const FIRST_REQUEST_MS = 500
const CHECK_MS = 10

/** The open connections of one listener. */
export class Connections {
  readonly #perAddress: number
  readonly #onRefused: () => void
  readonly #proxies = new BlockList()
  readonly #sockets = new Set<Socket>()
  /** HTTP/1.1 over TLS. */
  readonly #secured = new Set<Socket>()
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
   * Takes no more connections, and waits until those that were taken have brought a request, for half a second. A proxy
   * has already sent its request on a connection that the kernel took for us. If such a connection is reset, because
   * nobody listens any more, the proxy cannot send a POST to another replica. So the listener is closed in a turn of
   * the event loop that brought no connection and was short: then none waits in the kernel.
   */
  async stopListening(server: Server): Promise<void> {
    const untilMs = performance.now() + QUIET_MAX_MS
    for (;;) {
      const [taken, beganAt] = [this.#taken, performance.now()]
      await nextTurn()
      const now = performance.now()
      if (this.#taken === taken && now - beganAt < QUIET_TURN_MS) break
      // Under load no turn may be short. One without a connection is the next best.
      if (now > untilMs || (this.#taken === taken && now > untilMs - QUIET_MAX_MS / 2)) break
    }
    // The `close` of an HTTP server would also close connections.
    Server.prototype.close.call(server)
    const lastMs = performance.now() + FIRST_REQUEST_MS
    const isAwaited = () => [...this.#sockets].some(({ bytesRead }) => bytesRead === 0)
    while (isAwaited() && performance.now() < lastMs) await delay(CHECK_MS)
  }

  /**
   * Closes the connections on which nothing ever arrived, as browsers and balancers open some ahead of time, and idle
   * ones over TLS. Node does not close either of them with the server.
   *
   * @param isIdle whether a connection has answered all that it was asked
   */
  closeUnused(isIdle: (socket: Socket) => boolean): void {
    for (const socket of this.#sockets) if (socket.bytesRead === 0) socket.destroy()
    for (const socket of this.#secured) if (isIdle(socket)) socket.destroy()
  }

  #remember(sockets: Set<Socket>, socket: Socket): void {
    sockets.add(socket)
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
