import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connectAsync } from 'mqtt'
import { answerCalls } from '../answer-calls.ts'

/** The server that most people would write first: it writes each message to each reader of its topic when it comes. */
answerCalls({
  async listen({ mqttUrl }: { mqttUrl: string }): Promise<number> {
    const client = await connectAsync(mqttUrl, { protocolVersion: 5 })
    const readers = new Map<string, Set<ServerResponse>>()
    client.on('message', (topic, payload, { qos, retain }) => {
      const event = `data: ${JSON.stringify({ topic, payload: payload.toString(), encoding: 'utf8', qos, retain })}\n\n`
      for (const response of readers.get(topic) ?? []) response.write(event)
    })
    const server = createServer((request, response) => {
      const topic = new URL(request.url!, 'http://localhost').searchParams.get('topic')!
      const start = (): void => {
        response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
        response.flushHeaders()
        readers.get(topic)!.add(response)
      }
      response.on('close', () => readers.get(topic)?.delete(response))
      if (readers.has(topic)) return start()
      readers.set(topic, new Set())
      client.subscribe(topic, { qos: 1 }, start)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 4096, resolve))
    return (server.address() as AddressInfo).port
  },
})
