import { createSecureServer, type Http2SecureServer, type Http2ServerRequest, type Http2ServerResponse, type ServerHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'

/** In PEM. The certificate's file may hold those that lead to its CA behind it. */
export interface Certificate {
  cert: string
  key: string
}

/** Streams of one HTTP/2 connection; whoever wants more has to open another. */
const STREAMS_MAX = 256
/** As of HTTP/1.1, in bytes. */
const HEADERS_MAX = 16_384
const HANDSHAKE_TIMEOUT_MS = 15_000
/** A connection without a request for so long is closed. */
const IDLE_MS = 72_000
/** For what is written last to leave. */
const FAREWELL_MS = 1000

/**
 * The servers of one HTTPS listener, which speaks HTTP/2 and HTTP/1.1: a name like `localhost` may stand for several
 * addresses, and each has a server of its own. Node 20 neither closes nor counts the connections of such servers.
 */
export class SecureServers {
  #certificate: Certificate
  readonly #headersTimeoutMs: number
  readonly #servers: Http2SecureServer[] = []
  readonly #sockets = new Set<Socket>()
  /** By the other end's address, those whose handshake is not done. */
  readonly #greeting = new Map<string, Socket>()
  /** With the number of their open streams. */
  readonly #sessions = new Map<ServerHttp2Session, number>()
  #leaving = false

  constructor(certificate: Certificate, headersTimeoutMs: number) {
    this.#certificate = certificate
    this.#headersTimeoutMs = headersTimeoutMs
  }

  create(handler: (request: Http2ServerRequest, response: Http2ServerResponse) => void): Http2SecureServer {
    const server = createSecureServer({
      ...this.#certificate,
      allowHTTP1: true,
      minVersion: 'TLSv1.2',
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      settings: { maxConcurrentStreams: STREAMS_MAX, maxHeaderListSize: HEADERS_MAX },
    }, handler)
    // Of its HTTP/1.1 connections; Node takes them all, but types them for servers that speak nothing else.
    Object.assign(server, { headersTimeout: this.#headersTimeoutMs, requestTimeout: 0, keepAliveTimeout: IDLE_MS })
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      const end = otherEnd(socket)
      this.#greeting.set(end, socket)
      socket.once('close', () => {
        this.#sockets.delete(socket)
        if (this.#greeting.get(end) === socket) this.#greeting.delete(end)
      })
    })
    server.on('secureConnection', (socket) => this.#greeting.delete(otherEnd(socket)))
    server.on('session', (session) => this.#watch(session))
    const close = server.close.bind(server)
    server.close = (done) => {
      this.#leave()
      return close(done)
    }
    this.#servers.push(server)
    return server
  }

  /** For connections from now on; those that are open keep theirs. */
  renew(certificate: Certificate): void {
    for (const server of this.#servers) server.setSecureContext({ ...certificate, minVersion: 'TLSv1.2' })
    this.#certificate = certificate
  }

  closeAllConnections(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Lets what runs on HTTP/2 connections come to its end, and takes no more. */
  #leave(): void {
    this.#leaving = true
    for (const socket of this.#greeting.values()) socket.destroy()
    for (const [session, open] of this.#sessions) this.#dismiss(session, open)
  }

  #watch(session: ServerHttp2Session): void {
    this.#sessions.set(session, 0)
    session.once('close', () => this.#sessions.delete(session))
    session.on('stream', (stream) => {
      this.#count(session, 1)
      stream.once('close', () => this.#count(session, -1))
    })
    session.setTimeout(IDLE_MS, () => {
      if (this.#sessions.get(session) === 0) abandon(session)
    })
    if (this.#leaving) this.#dismiss(session, 0)
  }

  #count(session: ServerHttp2Session, change: number): void {
    const open = this.#sessions.get(session)
    if (open === undefined) return
    this.#sessions.set(session, open + change)
    if (this.#leaving) this.#dismiss(session, open + change)
  }

  #dismiss(session: ServerHttp2Session, open: number): void {
    session.close()
    // A client that reads nothing would keep the connection from closing.
    if (open === 0) {
      const timer = setTimeout(() => abandon(session), FAREWELL_MS)
      session.once('close', () => clearTimeout(timer))
    }
  }
}

function abandon(session: ServerHttp2Session): void {
  if (session.destroyed) return
  session.goaway()
  session.destroy()
}

function otherEnd({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}
