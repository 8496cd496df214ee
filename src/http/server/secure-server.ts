import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2'
import type { Socket } from 'node:net'
import { type Http1Limits, http1Options } from './http1-options.ts'
import { Response } from './response.ts'

/** PEM. `cert` may also contain the intermediate certificates, after the server's own. */
export interface Certificate {
  cert: string
  key: string
}

/** With a header list above this size Node resets the HTTP/2 stream instead of passing the request on. */
const NODE_HEADERS_MAX = 65_535

/** Most concurrent streams of one HTTP/2 connection. A client that needs more opens another connection. */
const STREAMS_MAX = 256
const HANDSHAKE_TIMEOUT_MS = 15_000
/**
 * The ciphers of TLS 1.3, and those of TLS 1.2 with a key exchange of their own for each connection. Without it,
 * whoever gets the private key later could read what was recorded before (forward secrecy).
 */
const TLS = {
  minVersion: 'TLSv1.2',
  ciphers: [
    'TLS_AES_256_GCM_SHA384',
    'TLS_CHACHA20_POLY1305_SHA256',
    'TLS_AES_128_GCM_SHA256',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-RSA-AES128-GCM-SHA256',
    'ECDHE-ECDSA-AES256-GCM-SHA384',
    'ECDHE-RSA-AES256-GCM-SHA384',
    'ECDHE-ECDSA-CHACHA20-POLY1305',
    'ECDHE-RSA-CHACHA20-POLY1305',
  ].join(':'),
} as const
/** Time for the last bytes of a closing HTTP/2 connection to be read, before its socket is destroyed. */
const CLOSE_TIMEOUT_MS = 1000

/**
 * An HTTPS listener for HTTP/2 and HTTP/1.1. It keeps track of its own connections, because Node 20 neither closes nor
 * counts those of an HTTP/2 server.
 */
export class SecureServer {
  #certificate: Certificate
  #server: Http2SecureServer | undefined
  /** By the client's address and port: Node does not expose the socket of an HTTP/2 connection. */
  readonly #sockets = new Map<string, Socket>()
  /** Sockets whose TLS handshake is not finished. */
  readonly #handshaking = new Set<Socket>()
  /** HTTP/2 connections and their number of open streams. */
  readonly #sessions = new Map<ServerHttp2Session, number>()
  #isClosing = false

  constructor(certificate: Certificate) {
    this.#certificate = certificate
  }

  /** Builds the Node server. To be called once. */
  create(
    handler: (request: Http2ServerRequest, response: Http2ServerResponse) => void,
    limits: Http1Limits,
  ): Http2SecureServer {
    const ofHttp1 = http1Options(limits)
    const server = createSecureServer(
      {
        ...this.#certificate,
        allowHTTP1: true,
        Http1ServerResponse: Response,
        ...TLS,
        handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
        settings: {
          maxConcurrentStreams: STREAMS_MAX,
          maxHeaderListSize: Math.max(NODE_HEADERS_MAX, limits.headersBytes),
        },
        ...ofHttp1,
      },
      handler,
    )
    // An HTTP/2 server takes some HTTP/1.1 options as properties only, and its types do not know them.
    Object.assign(server, ofHttp1, { requestTimeout: 0 })
    server.on('connection', (socket: Socket) => {
      const key = peerOf(socket)
      this.#sockets.set(key, socket)
      this.#handshaking.add(socket)
      socket.once('close', () => {
        this.#handshaking.delete(socket)
        if (this.#sockets.get(key) === socket) this.#sockets.delete(key)
      })
    })
    server.on('secureConnection', (secured) => this.#handshaking.delete(this.#sockets.get(peerOf(secured))!))
    server.on('session', (session) => this.#trackSession(session, limits.keepAliveTimeoutMs))
    const close = server.close.bind(server)
    server.close = (done) => {
      this.#closeGracefully()
      return close(done)
    }
    this.#server = server
    return server
  }

  /** Replaces the certificate for new connections. Open ones keep the old one. */
  renew(certificate: Certificate): void {
    this.#server?.setSecureContext({ ...certificate, ...TLS })
    this.#certificate = certificate
  }

  closeAllConnections(): void {
    for (const socket of this.#sockets.values()) socket.destroy()
  }

  /** Lets open HTTP/2 streams finish and accepts no new ones. Connections still in their handshake are dropped. */
  #closeGracefully(): void {
    this.#isClosing = true
    for (const socket of this.#handshaking) socket.destroy()
    for (const [session, open] of this.#sessions) this.#closeSession(session, open)
  }

  #trackSession(session: ServerHttp2Session, idleMs: number): void {
    this.#sessions.set(session, 0)
    session.once('close', () => this.#sessions.delete(session))
    session.on('stream', (stream) => {
      this.#countStreams(session, 1)
      stream.once('close', () => this.#countStreams(session, -1))
    })
    session.setTimeout(idleMs, () => {
      if (this.#sessions.get(session) === 0) this.#closeSession(session, 0)
    })
    if (this.#isClosing) this.#closeSession(session, 0)
  }

  #countStreams(session: ServerHttp2Session, change: number): void {
    const open = this.#sessions.get(session)
    if (open === undefined) return
    this.#sessions.set(session, open + change)
    if (this.#isClosing) this.#closeSession(session, open + change)
  }

  /** Sends GOAWAY. With no stream open, also makes sure that the connection ends. */
  #closeSession(session: ServerHttp2Session, open: number): void {
    const socket = session.destroyed ? undefined : this.#sockets.get(peerOf(session.socket))
    session.close()
    if (open > 0 || socket === undefined) return
    // A client that reads nothing would keep the connection open for ever.
    const timer = setTimeout(() => socket.destroy(), CLOSE_TIMEOUT_MS)
    socket.once('close', () => clearTimeout(timer))
  }
}

function peerOf({ remoteAddress, remotePort }: Pick<Socket, 'remoteAddress' | 'remotePort'>): string {
  return `${remoteAddress} ${remotePort}`
}
