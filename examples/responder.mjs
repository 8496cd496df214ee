// Answers requests of POST /request on a topic: node responder.mjs mqtt://127.0.0.1:1883 home/door
import mqtt from 'mqtt'

const [url, topic] = process.argv.slice(2)
const client = await mqtt.connectAsync(url, { protocolVersion: 5 })

client.on('message', (_topic, payload, { properties }) => {
  // A message that is no request has no response topic.
  if (properties?.responseTopic === undefined) return
  const { responseTopic, correlationData } = properties
  client.publish(responseTopic, `${topic}: ${payload}`, {
    qos: 1,
    properties: { correlationData, contentType: 'text/plain' },
  })
})
await client.subscribeAsync(topic, { qos: 1 })
console.log(`answering requests on ${topic}`)
