import { once } from 'node:events'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { sendPieces } from '../../../src/http/message/send-pieces.ts'
import { createValidation } from '../../../src/http/message/validation.ts'
import { createServer, refuseUnknown, type ServerOptions } from '../../../src/http/server/server.ts'
import { MemoryAccount } from '../../../src/memory/account.ts'

const LIMITS = {
  connections: 100,
  connectionsPerAddress: 0,
  keepAliveTimeoutMs: 75_000,
  headersBytes: 16_384,
  headersTimeoutMs: 15_000,
  bodyBytes: 1_000_000,
  bodyTimeoutMs: 60_000,
  parameters: 10,
  stallMs: 60_000,
}

interface Tried {
  app: FastifyInstance
  url: string
  logs: { level: number; err?: { message: string } }[]
  memory: MemoryAccount
}

/** A server of two routes whose dependencies fail while `isFailing` is true. */
async function start(
  failing: (isFailing: () => boolean) => Partial<ServerOptions>,
): Promise<Tried & { fail(on: boolean): void }> {
  let isFailing = false
  const logs: Tried['logs'] = []
  const memory = new MemoryAccount({ totalBytes: 10_000_000 })
  const app = createServer({
    logger: pino({ level: 'debug' }, { write: (line: string) => void logs.push(JSON.parse(line)) }),
    limits: LIMITS,
    validation: createValidation({ levelsMax: 100, allowDollar: false }),
    shareOf: (address) => memory.shareOf(address),
    isDraining: () => false,
    isShuttingDown: () => false,
    onAnswered() {},
    onRoute() {},
    onDropped() {},
    ...failing(() => isFailing),
  })
  onTestFinished(() => app.close())
  refuseUnknown(app)
  app.get('/ok', async () => ({ status: 'ok' }))
  app.post('/echo', async ({ body }) => body)
  app.get('/pieces', (request, reply) => {
    function* pieces(): Generator<string> {
      yield 'x'.repeat(100_000)
      throw new Error('thrown here')
    }
    return sendPieces(reply, pieces(), request.share)
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  return { app, url, logs, memory, fail: (on) => (isFailing = on) }
}

function thrown(): never {
  throw new Error('thrown here')
}

test.each<[string, (isFailing: () => boolean) => Partial<ServerOptions>]>([
  [
    'the account of memory',
    (isFailing) => ({
      shareOf: (name) => (isFailing() ? thrown() : new MemoryAccount({ totalBytes: 1e6 }).shareOf(name)),
    }),
  ],
  ['the state of the process', (isFailing) => ({ isShuttingDown: () => (isFailing() ? thrown() : false) })],
  ['the state that each answer looks at', (isFailing) => ({ isDraining: () => (isFailing() ? thrown() : false) })],
  ['the metrics', (isFailing) => ({ onAnswered: () => (isFailing() ? thrown() : undefined) })],
])('what %s throws ends no more than its request', async (_name, failing) => {
  const { url, fail } = await start(failing)
  expect((await fetch(`${url}/ok`)).status).toBe(200)
  fail(true)
  for (const [path, init] of [
    ['/ok', {}],
    ['/nowhere', {}],
    ['/echo', { method: 'POST', body: '{"a":1}', headers: { 'content-type': 'application/json' } }],
  ] as const) {
    await fetch(url + path, init).catch(() => undefined)
  }
  fail(false)
  expect((await fetch(`${url}/ok`)).status).toBe(200)
})

test('what the pieces of an answer throw cuts off that answer, is logged, and gives back what was held', async () => {
  const { url, logs, memory } = await start(() => ({}))
  const socket = connect(Number(new URL(url).port), '127.0.0.1').on('error', () => {})
  onTestFinished(() => void socket.destroy())
  socket.write('GET /pieces HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await new Promise((resolve) => socket.resume().once('close', resolve))
  expect(JSON.stringify(logs)).toContain('thrown here')
  await expect.poll(() => memory.heldBytes).toBe(0)
  expect((await fetch(`${url}/ok`)).status).toBe(200)
})

test('what a parser throws is the answer, wherever the body was read', async () => {
  const { url } = await start(() => ({}))
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  socket.write('POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n{')
  // The rest comes in a later turn of the event loop, where nothing of Fastify catches.
  await new Promise((resolve) => setTimeout(resolve, 20))
  socket.write('"a"')
  expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1.1 400/)
  expect((await fetch(`${url}/ok`)).status).toBe(200)
})
