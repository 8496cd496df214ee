import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2'
import type { Socket } from 'node:net'
import { type HeadLimits, http1Options } from './http1-options.ts'

/** In PEM. The certificate's file may hold those that lead to its CA behind it. */
export interface Certificate {
  cert: string
  key: string
}

/** What Node takes over HTTP/2 before it resets the stream. */
const NODE_HEADERS_MAX = 65_535

/** Streams of one HTTP/2 connection; whoever wants more has to open another. */
const STREAMS_MAX = 256
const HANDSHAKE_TIMEOUT_MS = 15_000
/** A connection without a request for so long is closed. */
const IDLE_MS = 72_000
/** For what is written last to leave. */
const FAREWELL_MS = 1000

/** An HTTPS listener, which speaks HTTP/2 and HTTP/1.1. Node 20 neither closes nor counts the connections of such a server. */
export class SecureServer {
  #certificate: Certificate
  #server: Http2SecureServer | undefined
  /** By their other end; Node hands out no socket of an HTTP/2 connection. */
  readonly #sockets = new Map<string, Socket>()
  /** Those whose handshake is not done. */
  readonly #greeting = new Set<Socket>()
  /** With the number of their open streams. */
  readonly #sessions = new Map<ServerHttp2Session, number>()
  #leaving = false

  constructor(certificate: Certificate) {
    this.#certificate = certificate
  }

  /** To be called once. */
  create(
    handler: (request: Http2ServerRequest, response: Http2ServerResponse) => void,
    limits: HeadLimits,
  ): Http2SecureServer {
    const ofHttp1 = http1Options(limits)
    const server = createSecureServer(
      {
        ...this.#certificate,
        allowHTTP1: true,
        minVersion: 'TLSv1.2',
        handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
        settings: {
          maxConcurrentStreams: STREAMS_MAX,
          maxHeaderListSize: Math.max(NODE_HEADERS_MAX, limits.headersBytes),
        },
        ...ofHttp1,
      },
      handler,
    )
    // Node takes some of them only so, and types them all for servers that speak nothing else.
    Object.assign(server, ofHttp1, { requestTimeout: 0, keepAliveTimeout: IDLE_MS })
    server.on('connection', (socket: Socket) => {
      const end = otherEnd(socket)
      this.#sockets.set(end, socket)
      this.#greeting.add(socket)
      socket.once('close', () => {
        this.#greeting.delete(socket)
        if (this.#sockets.get(end) === socket) this.#sockets.delete(end)
      })
    })
    server.on('secureConnection', (secured) => this.#greeting.delete(this.#sockets.get(otherEnd(secured))!))
    server.on('session', (session) => this.#watch(session))
    const close = server.close.bind(server)
    server.close = (done) => {
      this.#leave()
      return close(done)
    }
    this.#server = server
    return server
  }

  /** For connections from now on; those that are open keep theirs. */
  renew(certificate: Certificate): void {
    this.#server?.setSecureContext({ ...certificate, minVersion: 'TLSv1.2' })
    this.#certificate = certificate
  }

  closeAllConnections(): void {
    for (const socket of this.#sockets.values()) socket.destroy()
  }

  /** Lets what runs on HTTP/2 connections come to its end, and takes no more. */
  #leave(): void {
    this.#leaving = true
    for (const socket of this.#greeting) socket.destroy()
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
      if (this.#sessions.get(session) === 0) this.#dismiss(session, 0)
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
    const socket = session.destroyed ? undefined : this.#sockets.get(otherEnd(session.socket))
    session.close()
    if (open > 0 || socket === undefined) return
    // A client that reads nothing would keep the connection from closing.
    const timer = setTimeout(() => socket.destroy(), FAREWELL_MS)
    socket.once('close', () => clearTimeout(timer))
  }
}

function otherEnd({ remoteAddress, remotePort }: Pick<Socket, 'remoteAddress' | 'remotePort'>): string {
  return `${remoteAddress} ${remotePort}`
}
