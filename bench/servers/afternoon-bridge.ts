import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { connectAsync } from 'mqtt'
import { answerCalls } from '../answer-calls.ts'
import type { Posted } from './bare-route.ts'

/** The bridge that one writes in an afternoon: Fastify, MQTT.js, a small schema, and an answer behind PUBACK. */
answerCalls({
  async listen({ mqttUrl }: { mqttUrl: string }): Promise<number> {
    const client = await connectAsync(mqttUrl, { protocolVersion: 5 })
    const app = fastify()
    const body = {
      type: 'object',
      required: ['topic', 'payload'],
      properties: {
        topic: { type: 'string', minLength: 1 },
        payload: { type: 'string' },
        qos: { enum: [0, 1, 2] },
        retain: { type: 'boolean' },
      },
    }
    app.post('/publish', { schema: { body } }, async (request) => {
      const { topic, payload, qos = 1 } = request.body as Posted
      await client.publishAsync(topic, payload, { qos })
      return { topic, qos }
    })
    await app.listen({ host: '127.0.0.1', port: 0 })
    return (app.server.address() as AddressInfo).port
  },
})
