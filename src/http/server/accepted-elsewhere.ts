import type { AddressInfo, Server, Socket } from 'node:net'
import type { Server as TlsServer } from 'node:tls'

/** The process that accepts the connections of a server. */
export interface Acceptor {
  /**
   * Listens, and passes each connection to `take` once the server may get some.
   * @throws the listener's errors, such as EADDRINUSE
   */
  listen(at: { host: string; port: number }, take: (socket: Socket) => void): Promise<AcceptorListening>
  /** Says whether there are as many connections as there may be. Those that come nevertheless are refused. */
  setFull(isFull: boolean): void
  /** Resolves when `take` has had the last connection. */
  stopListening(): Promise<void>
}

export interface AcceptorListening {
  address: AddressInfo
  /** 48 bytes in hexadecimal: with the same keys, each process goes on with the TLS sessions of the others. */
  ticketKeys: string
}

/**
 * Makes a server of Node take the connections that another process accepts. It then has no listener of its own, and
 * Node neither counts its connections, nor refuses those above `maxConnections`, nor waits for them when it closes.
 */
export function acceptElsewhere(server: Server, acceptor: Acceptor): void {
  const sockets = new Set<Socket>()
  const close = server.close.bind(server)
  let address: AddressInfo | null = null
  let onDrained = () => {}

  function take(socket: Socket): void {
    if (sockets.size >= server.maxConnections) {
      socket.destroy()
      server.emit('drop')
      return
    }
    sockets.add(socket)
    if (sockets.size === server.maxConnections) acceptor.setFull(true)
    socket.once('close', () => {
      if (sockets.size === server.maxConnections) acceptor.setFull(false)
      sockets.delete(socket)
      if (sockets.size === 0) onDrained()
    })
    // As Node does with the connections that a server accepts itself.
    socket.allowHalfOpen = (server as Server & { allowHalfOpen: boolean }).allowHalfOpen
    server.emit('connection', socket)
  }

  async function listen(at: { host: string; port: number }): Promise<void> {
    try {
      const listening = await acceptor.listen(at, take)
      address = listening.address
      if ('setTicketKeys' in server) (server as TlsServer).setTicketKeys(Buffer.from(listening.ticketKeys, 'hex'))
      server.emit('listening')
    } catch (error) {
      server.emit('error', error)
    }
  }

  Object.assign(server, {
    listen(at: { host: string; port: number }) {
      void listen(at)
      return server
    },
    address: () => address,
    getConnections: (done: (error: null, count: number) => void) => done(null, sockets.size),
    close(done?: () => void) {
      close()
      onDrained = () => done?.()
      if (sockets.size === 0) process.nextTick(onDrained)
      return server
    },
  })
}
