import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { MessageSchema, PublishResultSchema } from '../../src/http/message/schemas.ts'

export interface Posted {
  topic: string
  payload: string
  qos?: 0 | 1 | 2
}

/**
 * Starts a Fastify server with the body and the response of `POST /publish`, and nothing else of the bridge. The
 * schema's own formats (`mqtt-topic` and others) are not checked, which is quicker. Resolves with its port.
 * @param publish called before it answers
 */
export async function listenBare(publish?: (message: Posted) => Promise<void>): Promise<number> {
  const formats = Object.fromEntries(
    ['mqtt-topic', 'mqtt-string', 'text', 'base64'].map((name) => [name, true as const]),
  )
  const app = fastify({ ajv: { customOptions: { formats, strict: false } } })
  app.post('/publish', { schema: { body: MessageSchema, response: { 200: PublishResultSchema } } }, async (request) => {
    const message = request.body as Posted
    if (publish !== undefined) await publish(message)
    const { topic, qos = 1 } = message
    return { topic, qos, reasonCode: 0, reason: 'Success', matchedSubscribers: true }
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  return (app.server.address() as AddressInfo).port
}
