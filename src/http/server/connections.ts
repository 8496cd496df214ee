import type { EventEmitter } from 'node:events'
import { BlockList, isIPv6, type Socket } from 'node:net'
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

  /** How many there were so far. */
  get taken(): number {
    return this.#taken
  }

  /**
   * Waits until the connections that were taken have brought a request, or are so old that they were opened ahead of
   * time.
   */
  async firstRequests(): Promise<void> {
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
