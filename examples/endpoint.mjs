// An endpoint for pushes: verifies the signature, processes each message once, and answers 204.
// Usage: WEBHOOK_SECRET=whsec_… node endpoint.mjs [PORT]

import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const port = Number(process.argv[2] ?? 9000)
const secret = process.env.WEBHOOK_SECRET
if (!secret?.startsWith('whsec_')) throw new Error('WEBHOOK_SECRET is not set')
const key = Buffer.from(secret.slice('whsec_'.length), 'base64')
const BODY_MAX = 10 * 1024 * 1024

/** Ids of the latest requests: the same message may come twice. A real endpoint keeps them with its data. */
const seen = new Set()

function isSigned({ 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': given = '' }, body) {
  // Somebody may have recorded an old request.
  if (!(Math.abs(Date.now() / 1000 - timestamp) < 300)) return false
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest()
  // There are several while the secret is changed.
  return given.split(' ').some((each) => {
    const [version, signature = ''] = each.split(',')
    const bytes = Buffer.from(signature, 'base64')
    return version === 'v1' && bytes.length === expected.length && timingSafeEqual(bytes, expected)
  })
}

function handle({ topic, payload }) {
  console.log(topic, payload)
}

const server = createServer(async (request, response) => {
  try {
    const chunks = []
    let size = 0
    for await (const chunk of request) {
      size += chunk.length
      if (size > BODY_MAX) return response.writeHead(413).end()
      chunks.push(chunk)
    }
    const body = Buffer.concat(chunks)
    if (!isSigned(request.headers, body)) return response.writeHead(401).end()
    const id = request.headers['webhook-id']
    if (!seen.has(id)) {
      for (const message of [JSON.parse(body)].flat()) handle(message)
      seen.add(id)
      if (seen.size > 10_000) seen.delete(seen.values().next().value)
    }
    response.writeHead(204).end()
  } catch (error) {
    // Causeway sends the message again after a 500.
    console.error(error)
    response.writeHead(500).end()
  }
})
server.listen(port, '127.0.0.1', () => console.error(`listening on http://127.0.0.1:${server.address().port}`))
