import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { expect, onTestFinished, test, vi } from 'vitest'
import { type Answer, Endpoint } from '../../src/push/endpoint.ts'

/** An endpoint whose requests are answered by the test. */
async function start(options: { connections?: number; connectionMs?: number; timeoutMs?: number } = {}) {
  const requests: { body: string; socket: Socket; response: ServerResponse }[] = []
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    requests.push({ body, socket: request.socket, response })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const endpoint = new Endpoint({
    url: `http://127.0.0.1:${port}/`,
    connections: 2,
    timeoutMs: 60_000,
    connectionMs: 60_000,
    ca: undefined,
    ...options,
  })
  onTestFinished(async () => {
    await endpoint.close()
    server.closeAllConnections()
    server.close()
  })
  const post = (body: string) =>
    new Promise<Answer>((resolve) => endpoint.post(Buffer.from(body), ['content-type', 'text/plain'], resolve))
  const arrived = async (count: number) => {
    await vi.waitUntil(() => requests.length >= count)
    return requests[count - 1]!
  }
  return { endpoint, post, arrived, requests }
}

test('connections are replaced after their time, and a request that is open on one of them gets its answer', async () => {
  const { post, arrived } = await start({ connectionMs: 50 })
  const open = post('open')
  const first = await arrived(1)
  const closed = once(first.socket, 'close')
  await new Promise((resolve) => setTimeout(resolve, 51))
  const later = post('later')
  const second = await arrived(2)
  expect(second.socket).not.toBe(first.socket)
  second.response.writeHead(200).end()
  expect(await later).toMatchObject({ status: 200 })
  first.response.writeHead(202).end()
  expect(await open).toMatchObject({ status: 202 })
  await closed
})

test('within their time connections are used again', async () => {
  const { post, arrived } = await start({ connections: 1 })
  for (const index of [1, 2]) {
    const posted = post('one')
    const { response } = await arrived(index)
    response.writeHead(204).end()
    await posted
  }
  const [first, second] = [await arrived(1), await arrived(2)]
  expect(second.socket).toBe(first.socket)
})

test('each request has its own time, and one that is late is ended alone', async () => {
  const { post, arrived } = await start({ timeoutMs: 1000 })
  const late = post('late')
  await arrived(1)
  await new Promise((resolve) => setTimeout(resolve, 500))
  const inTime = post('in time')
  const { response } = await arrived(2)
  expect(await late).toEqual({
    status: undefined,
    retryAfterMs: undefined,
    reason: 'no whole answer came within 1000 ms',
  })
  response.writeHead(503, { 'retry-after': '7' }).end()
  expect(await inTime).toEqual({ status: 503, retryAfterMs: 7000, reason: 'it answered 503' })
  const next = post('next')
  await arrived(3)
  expect(await next).toMatchObject({ reason: 'no whole answer came within 1000 ms' })
})

test('an answer in two steps is that of the second', async () => {
  const { post, arrived } = await start()
  const posted = post('one')
  const { response } = await arrived(1)
  response.writeProcessing()
  response.writeHead(201).end('made')
  expect(await posted).toMatchObject({ status: 201 })
})

test('closing ends open requests, also those of connections that were replaced', async () => {
  const { endpoint, post, arrived } = await start({ connectionMs: 50 })
  const posted = [post('one')]
  await arrived(1)
  await new Promise((resolve) => setTimeout(resolve, 51))
  posted.push(post('two'))
  await arrived(2)
  await endpoint.close()
  for (const answer of await Promise.all(posted)) expect(answer.status).toBeUndefined()
  expect(await post('three')).toMatchObject({ status: undefined })
})
