import type { EventEmitter } from 'node:events'
import { BlockList, isIPv6, type Socket } from 'node:net'
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

/** The open connections of one listener. */
export class Connections {
  readonly #perAddress: number
  readonly #onRefused: () => void
  readonly #proxies = new BlockList()
  readonly #sockets = new Set<Socket>()
  /** HTTP/1.1 over TLS. */
  readonly #secured = new Set<Socket>()
  readonly #byNetwork = new Map<string, number>()

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
      this.#remember(this.#sockets, socket)
      if (this.#perAddress > 0) this.#count(socket)
    })
    server.on('secureConnection', (socket: TLSSocket) => {
      if (socket.alpnProtocol !== 'h2') this.#remember(this.#secured, socket)
    })
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
