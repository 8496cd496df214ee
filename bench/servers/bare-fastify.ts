import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { MessageSchema, PublishResultSchema } from '../../src/http/schemas.ts'
import { answerCalls } from '../answer-calls.ts'

/** The same body and answer as `POST /publish`, and nothing done. What our formats check goes unchecked, which is quicker. */
answerCalls({
  async listen(): Promise<number> {
    const formats = Object.fromEntries(['mqtt-topic', 'mqtt-string', 'text', 'base64'].map((name) => [name, true as const]))
    const app = fastify({ ajv: { customOptions: { formats, strict: false } } })
    app.post('/publish', { schema: { body: MessageSchema, response: { 200: PublishResultSchema } } }, async (request) => {
      const { topic, qos = 1 } = request.body as { topic: string; qos?: number }
      return { topic, qos, reasonCode: 0, reason: 'Success', matchedSubscribers: true }
    })
    await app.listen({ host: '127.0.0.1', port: 0 })
    return (app.server.address() as AddressInfo).port
  },
})
