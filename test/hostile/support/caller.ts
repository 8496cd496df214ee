import { type EventEmitter, once } from 'node:events'
import http, { type IncomingHttpHeaders } from 'node:http'
import http2, { type ClientHttp2Session } from 'node:http2'
import https from 'node:https'
import net, { type Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import tls from 'node:tls'
import type { Target } from './target.ts'

export interface Reply {
  /** 0 where the connection or stream ended without an answer. */
  status: number
  headers: IncomingHttpHeaders
  /** Of the body, what fits into a megabyte. */
  text: string
  /** All bytes of the body. */
  bytes: number
  ms: number
}

export interface AskOptions {
  headers?: Record<string, string>
  body?: string | Buffer
  /** Writes the body, and ends it or does not, in place of `body`. */
  write?: (body: Writable) => void
  timeoutMs?: number
  /** Address to call from: on Linux all of 127.0.0.0/8 is there. */
  from?: string
}

/** An answer that began; its body is not read before somebody does. */
export interface Opened {
  status: number
  headers: IncomingHttpHeaders
  body: Readable | undefined
  leave(): void
}

export interface Crew {
  /** Of the attack: aborted where it takes too long. */
  signal: AbortSignal
  /** A whole request, over what the target speaks. */
  ask(method: string, path: string, options?: AskOptions): Promise<Reply>
  open(method: string, path: string, options?: AskOptions): Promise<Opened>
  /** A TCP connection, TLS with HTTP/1.1 where the target has TLS. */
  socket(from?: string): Promise<Socket>
  /** An HTTP/2 connection of its own. */
  session(options?: http2.SecureClientSessionOptions & { from?: string }): Promise<ClientHttp2Session>
  /** A TLS connection on which HTTP/2 frames are written by hand. */
  frames(from?: string): Promise<Socket>
  /** Closes whatever is open. */
  leave(): void
}

const STREAMS_A_SESSION = 100
/** Node listens with a backlog of 511. Were it full, the kernel would keep the polite client waiting, and not the bridge. */
const CONNECTING_MAX = 100

/** The attacker's clients. Connections that the bridge closes are no errors here: that may be its defence. */
export function createCrew(
  target: Pick<Target, 'url' | 'port' | 'wire' | 'ca' | 'headers'>,
  signal: AbortSignal,
): Crew {
  const tracked = new Set<{ destroy(): void }>()
  const pool: { session: Promise<ClientHttp2Session>; from: string | undefined; streams: number; isGone: boolean }[] =
    []
  let connecting = 0
  const waiting: (() => void)[] = []
  /** Waits for a place among those that connect; gives it back once this is connected, refused or closed. */
  async function place(): Promise<(connection: EventEmitter, event: string) => void> {
    while (connecting >= CONNECTING_MAX) await new Promise<void>((resolve) => waiting.push(resolve))
    connecting += 1
    return (connection, event) => {
      void opened(connection, event).then(() => {
        connecting -= 1
        waiting.shift()?.()
      })
    }
  }
  const track = <Thing extends { destroy(): void; once(event: 'close', listener: () => void): unknown }>(
    thing: Thing,
  ): Thing => {
    tracked.add(thing)
    thing.once('close', () => tracked.delete(thing))
    return thing
  }

  async function socket(from?: string): Promise<Socket> {
    const release = await place()
    const to = { port: target.port, host: '127.0.0.1', ...(from !== undefined && { localAddress: from }) }
    const created = target.url.startsWith('https')
      ? tls.connect({
          ...to,
          ca: target.ca,
          ALPNProtocols: ['http/1.1'],
          servername: 'localhost',
        } as tls.ConnectionOptions)
      : net.connect({ ...to, noDelay: true })
    created.on('error', () => {})
    track(created)
    release(created, 'connect')
    await opened(created, 'encrypted' in created ? 'secureConnect' : 'connect')
    return created
  }

  async function frames(from?: string): Promise<Socket> {
    const to = { port: target.port, host: '127.0.0.1', ...(from !== undefined && { localAddress: from }) }
    const options = { ...to, ca: target.ca, ALPNProtocols: ['h2'], servername: 'localhost' }
    const created = track(tls.connect(options as tls.ConnectionOptions))
    created.on('error', () => {})
    await opened(created, 'secureConnect')
    return created
  }

  async function session({ from, ...options }: { from?: string } & http2.SecureClientSessionOptions = {}) {
    const created = track(
      http2.connect(target.url, {
        ca: target.ca,
        ...options,
        ...(from !== undefined && {
          createConnection: () =>
            tls.connect({
              port: target.port,
              host: '127.0.0.1',
              localAddress: from,
              ca: target.ca,
              ALPNProtocols: ['h2'],
              servername: 'localhost',
            } as tls.ConnectionOptions),
        }),
      }),
    )
    created.on('error', () => {})
    created.setMaxListeners(1000)
    await opened(created, 'connect')
    return created
  }

  async function start(method: string, path: string, { headers, body, write, from }: AskOptions): Promise<Opened> {
    const all = { ...target.headers, ...headers }
    if (target.wire === 'HTTP/1.1') {
      const client = target.url.startsWith('https') ? https : http
      const release = await place()
      const request = client.request(target.url + path, {
        method,
        headers: all,
        agent: false,
        ...(from !== undefined && { localAddress: from }),
      })
      track(request)
      request.on('error', () => {})
      request.once('socket', (one) => release(one, 'connect'))
      if (write === undefined) request.end(body)
      else {
        request.flushHeaders()
        write(request)
      }
      const [answer] = await Promise.race([
        once(request, 'response') as Promise<[http.IncomingMessage]>,
        once(request, 'close').then(() => [undefined] as const),
      ]).catch(() => [undefined] as const)
      answer?.on('error', () => {})
      return {
        status: answer?.statusCode ?? 0,
        headers: answer?.headers ?? {},
        body: answer,
        leave: () => request.destroy(),
      }
    }
    let seat = pool.find((one) => one.from === from && one.streams < STREAMS_A_SESSION && !one.isGone)
    if (seat === undefined) {
      // At once, so that those who come while it connects share it.
      seat = { session: session(from === undefined ? {} : { from }), from, streams: 0, isGone: false }
      pool.push(seat)
    }
    const mine = seat
    mine.streams += 1
    const connection = await mine.session
    if (connection.destroyed || connection.closed) {
      mine.isGone = true
      return { status: 0, headers: {}, body: undefined, leave() {} }
    }
    const stream = connection.request(
      { ':method': method, ':path': path, ...all },
      { endStream: body === undefined && write === undefined },
    )
    stream.on('error', () => {})
    stream.once('close', () => (mine.streams -= 1))
    if (write !== undefined) write(stream)
    else if (body !== undefined) stream.end(body)
    const [answer] = await Promise.race([
      once(stream, 'response') as Promise<[http2.IncomingHttpHeaders]>,
      once(stream, 'close').then(() => [undefined] as const),
    ]).catch(() => [undefined] as const)
    return {
      status: Number(answer?.[':status'] ?? 0),
      headers: answer ?? {},
      body: answer && stream,
      leave: () => stream.close(http2.constants.NGHTTP2_CANCEL),
    }
  }

  async function ask(method: string, path: string, options: AskOptions = {}): Promise<Reply> {
    const startedAt = performance.now()
    const nothing = { status: 0, headers: {}, text: '', bytes: 0 }
    let answer = undefined as Opened | undefined
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<typeof nothing>((resolve) => {
      timer = setTimeout(() => resolve(nothing), options.timeoutMs ?? 15_000)
    })
    const whole = (async () => {
      answer = await start(method, path, options)
      const { status, headers, body } = answer
      let text = ''
      let bytes = 0
      try {
        for await (const chunk of body ?? []) {
          bytes += (chunk as Buffer).length
          if (text.length < 1_000_000) text += (chunk as Buffer).toString('latin1')
        }
      } catch {
        // Cut off; what came is what there is.
      }
      return { status, headers, text, bytes }
    })()
    const reply = await Promise.race([whole, late])
    clearTimeout(timer)
    const ms = Math.round(performance.now() - startedAt)
    if (reply === nothing || options.write !== undefined) answer?.leave()
    // A stream has no end, and a status all the same.
    return reply === nothing ? { ...nothing, status: answer?.status ?? 0, ms } : { ...reply, ms }
  }

  return {
    signal,
    ask,
    open: (method, path, options = {}) => start(method, path, options),
    socket,
    session,
    frames,
    leave() {
      for (const thing of tracked) thing.destroy()
      tracked.clear()
    },
  }
}

/** Waits until it is open, or refused. */
function opened(connection: EventEmitter, event: string): Promise<void> {
  return new Promise((resolve) => {
    for (const name of [event, 'error', 'close']) connection.once(name, () => resolve())
  })
}

/** One GET by a client that is no attacker. */
export async function plainGet(target: Target, path: string, headers: Record<string, string>): Promise<string> {
  const crew = createCrew({ ...target, headers: {} }, AbortSignal.timeout(60_000))
  try {
    const { status, text } = await crew.ask('GET', path, { headers })
    if (status !== 200) throw new Error(`GET ${path}: ${status} ${text.slice(0, 200)}`)
    return text
  } finally {
    crew.leave()
  }
}

/** Aborted after so many milliseconds, or with the attack. Node 20 may collect what `AbortSignal.any` makes of a timeout. */
export function stopAfter(ms: number, attack: AbortSignal): AbortSignal {
  const stop = new AbortController()
  const timer = setTimeout(() => stop.abort(), ms)
  attack.addEventListener('abort', () => {
    clearTimeout(timer)
    stop.abort()
  })
  return stop.signal
}

/** Runs so many at once, until all have had their turn or the attack is over. */
export async function many(
  count: number,
  atOnce: number,
  signal: AbortSignal,
  one: (index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < count && !signal.aborted) await one(next++)
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, count) }, lane))
}
