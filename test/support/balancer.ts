import { once } from 'node:events'
import { createServer, type IncomingMessage, request as send } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'

export interface BalancerOptions {
  /** The URL of the bridge that gets a request. */
  targetOf(request: IncomingMessage): string
  /** Whether the connection to the client breaks in the middle of this part of a response. */
  cuts?(text: string): boolean
}

/** An HTTP load balancer in front of several bridges. It ends with the test. Returns its URL. */
export async function startBalancer({ targetOf, cuts }: BalancerOptions): Promise<string> {
  const server = createServer((request, response) => {
    const { method, headers, url } = request
    const forwarded = send(targetOf(request) + url, { method: method!, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      response.flushHeaders()
      answer.on('data', (chunk: Buffer) => {
        if (cuts?.(chunk.toString()) !== true) return void response.write(chunk)
        response.socket!.write(`${chunk.length.toString(16)}\r\n`)
        response.socket!.end(chunk.subarray(0, chunk.length / 2))
        answer.destroy()
      })
      answer.on('error', () => {})
      answer.on('end', () => response.end())
    })
    forwarded.on('error', () => response.destroy())
    response.on('close', () => forwarded.destroy())
    request.pipe(forwarded)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
