// The bridge that one writes in an afternoon: Fastify, MQTT.js, a small schema, an answer behind PUBACK, and streams with
// @fastify/sse. Arguments: the port, the URL of the broker.
import sse from '@fastify/sse'
import fastify from 'fastify'
import { connectAsync } from 'mqtt'

const [port, mqttUrl] = process.argv.slice(2)
const client = await connectAsync(mqttUrl, { protocolVersion: 5 })
const app = fastify()
await app.register(sse)

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
  const { topic, payload, qos = 1 } = request.body
  await client.publishAsync(topic, payload, { qos })
  return { topic, qos }
})

const readers = new Map()
client.on('message', (topic, payload, { qos, retain }) => {
  const event = { data: { topic, payload: payload.toString(), qos, retain } }
  // It rejects where the reader has gone meanwhile.
  for (const stream of readers.get(topic) ?? []) stream.send(event).catch(() => {})
})
app.get('/subscribe', { sse: 'only' }, async (request, reply) => {
  const { topic } = request.query
  if (!readers.has(topic)) {
    readers.set(topic, new Set())
    await client.subscribeAsync(topic, { qos: 1 })
  }
  const stream = reply.sse
  stream.keepAlive()
  stream.onClose(() => readers.get(topic).delete(stream))
  await stream.send({ event: 'open', data: topic })
  readers.get(topic).add(stream)
})

await app.listen({ host: '127.0.0.1', port: Number(port) })
