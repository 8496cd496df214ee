// A back end that publishes each of its events exactly once. Node 20 or later, no dependencies.
//
//   echo '{"id":"4711","topic":"orders/4711","payload":"paid"}' | node publisher.mjs http://localhost:8080
//
// Each line of the input is an event with an id of its own, as from the outbox table of a database. The id is the
// Idempotency-Key: when an answer is lost, the same request again publishes nothing and gets the first answer. If
// BEARER_TOKEN is set, it is sent with every request.
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'

const [base] = process.argv.slice(2)
const token = process.env.BEARER_TOKEN

/** Resolves when the broker has the message. Rejects when it never will. */
async function publish({ id, ...message }) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 10_000)) {
    const answer = await fetch(`${base}/publish`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'idempotency-key': `"${id}"`,
        ...(token && { authorization: `Bearer ${token}` }),
      },
      body: JSON.stringify({ qos: 1, ...message }),
      signal: AbortSignal.timeout(30_000),
    }).catch((error) => error)
    if (answer instanceof Error) {
      // No answer: the bridge may have published it. It knows the key, so asking again is safe.
      console.error(`${id}: ${answer.message}; trying again`)
    } else {
      const body = await answer.json().catch(() => ({ retryable: true, detail: `status ${answer.status}` }))
      if (answer.ok) return answer.headers.get('idempotency-replayed') === 'true'
      // The key remembers an unknown outcome and repeats it for ever. Then it is for you to choose: publish it under
      // another key, at the risk of a second message, or look whether it has arrived.
      if (!body.retryable || body.outcome === 'unknown') throw new Error(body.detail)
      console.error(`${id}: ${body.detail}; trying again`)
      wait = Math.max(wait, 1000 * Number(answer.headers.get('retry-after') ?? 0))
    }
    await delay(wait)
  }
}

// One after the other, so that they stay in order. For events that may overtake each other, publish several at once.
for await (const line of createInterface({ input: process.stdin })) {
  const event = JSON.parse(line)
  try {
    console.log(event.id, (await publish(event)) ? 'was published before' : 'published')
  } catch (error) {
    console.log(event.id, `failed: ${error.message}`)
    process.exitCode = 1
  }
}
