import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer as createHttpServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished, vi } from 'vitest'
import type { Bridge } from './bridge.ts'
import type { CertificateFiles } from './certificates.ts'

/** One request that an endpoint got. */
export interface Received {
  method: string
  path: string
  headers: IncomingHttpHeaders
  body: Buffer
  /** Milliseconds of `performance.now()`. */
  at: number
}

/** What is answered: a status, with headers; or what the function does with the response, which may be nothing. */
export type PushAnswer =
  | number
  | { status: number; headers: Record<string, string> }
  | ((response: ServerResponse, socket: Socket) => void)

export interface PushEndpoint {
  url: string
  port: number
  /** All requests so far, in the order in which their bodies were complete. */
  requests: Received[]
  /** Answers each request; 204 by default. */
  answer: (request: Received, index: number) => PushAnswer | Promise<PushAnswer>
  /** The payloads of the requests so far that have the format `message`, also of batches. */
  payloads(): string[]
  /** How many requests are open at most at the same time, so far. */
  readonly openMost: number
  /** Resolves with the first requests, once there are so many. */
  take(count: number): Promise<Received[]>
  /** Closes the port and every connection, until `listen`. */
  stop(): Promise<void>
  listen(): Promise<void>
}

/** An HTTP endpoint for pushes. It ends with the test. */
export async function startEndpoint(
  certificate?: CertificateFiles,
  { host = '127.0.0.1', port = 0 }: { host?: string; port?: number } = {},
): Promise<PushEndpoint> {
  let open = 0
  let openMost = 0
  const sockets = new Set<Socket>()
  const options =
    certificate === undefined ? undefined : { cert: readFileSync(certificate.cert), key: readFileSync(certificate.key) }
  const server = options === undefined ? createHttpServer() : createHttpsServer(options)
  server.keepAliveTimeout = 60_000
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).once('close', () => sockets.delete(socket))
  })
  server.on('request', async (request, response) => {
    open += 1
    openMost = Math.max(openMost, open)
    response.once('close', () => (open -= 1))
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer)
    } catch {
      return
    }
    const received: Received = {
      method: request.method!,
      path: request.url!,
      headers: request.headers,
      body: Buffer.concat(chunks),
      at: performance.now(),
    }
    endpoint.requests.push(received)
    const answer = await endpoint.answer(received, endpoint.requests.length - 1)
    if (typeof answer === 'function') answer(response, request.socket)
    else if (typeof answer === 'number') response.writeHead(answer).end()
    else response.writeHead(answer.status, answer.headers).end()
  })
  async function listen(): Promise<void> {
    server.listen(endpoint.port, host)
    await once(server, 'listening')
    endpoint.port = (server.address() as AddressInfo).port
  }
  const endpoint: PushEndpoint = {
    url: '',
    port,
    requests: [],
    answer: () => 204,
    payloads: () =>
      endpoint.requests.flatMap(({ body }) => {
        const parsed = JSON.parse(body.toString()) as { payload: string } | { payload: string }[]
        return Array.isArray(parsed) ? parsed.map(({ payload }) => payload) : [parsed.payload]
      }),
    get openMost() {
      return openMost
    },
    async take(count) {
      await vi
        .waitUntil(() => endpoint.requests.length >= count, { timeout: 30_000 })
        .catch(() => {
          throw new Error(
            `${endpoint.requests.length} requests of ${count}: ${endpoint.requests.map(({ body }) => body)}`,
          )
        })
      return endpoint.requests.slice(0, count)
    },
    async stop() {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
    listen,
  }
  onTestFinished(endpoint.stop)
  await listen()
  endpoint.url = `${certificate === undefined ? 'http' : 'https'}://${host}:${endpoint.port}/hook`
  return endpoint
}

export interface PushFile {
  path: string
  write(targets: unknown): void
}

/** A push file. It is deleted with the test. */
export function pushFile(targets: unknown): PushFile {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-push-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, 'push.json')
  const write = (content: unknown) => writeFileSync(path, JSON.stringify(content))
  write(targets)
  return { path, write }
}

export interface PushState {
  name: string
  url: string
  topics: string[]
  state: string
  since: string
  waiting: number
  lastError?: { reason: string; at: string }
}

/** What `GET /push` says of one target. */
export async function pushState(bridge: Pick<Bridge, 'adminUrl'>, name = 'hook'): Promise<PushState> {
  const all = (await (await fetch(`${bridge.adminUrl}/push`)).json()) as PushState[]
  return all.find((push) => push.name === name)!
}

/** Resolves once a target has this state. */
export async function untilPush(bridge: Pick<Bridge, 'adminUrl'>, state = 'active', name = 'hook'): Promise<PushState> {
  let last: PushState | undefined
  await vi
    .waitUntil(async () => (last = await pushState(bridge, name))?.state === state, { timeout: 30_000, interval: 20 })
    .catch(() => {
      throw new Error(`${name} is not ${state}: ${JSON.stringify(last)}`)
    })
  return last!
}
