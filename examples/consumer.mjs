// Processes the messages of a durable session, each at least once. Node 20 or later, no dependencies.
//
//   node consumer.mjs http://localhost:8080 billing 'orders/#'
//
// If BEARER_TOKEN is set, it is sent with every request.
const [base, name, filter] = process.argv.slice(2)
const url = `${base}/subscribe?${new URLSearchParams({ session: name, topic: filter, ack: 'explicit' })}`
const token = process.env.BEARER_TOKEN
const credentials = token ? { authorization: `Bearer ${token}` } : {}
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Put your own code here. If it throws, the message stays unacknowledged and is delivered again. */
async function handle({ topic, payload, redelivered }) {
  console.log(`${topic} ${payload}${redelivered ? ' (again)' : ''}`)
}

/** Acknowledges an event. If this fails, reconnecting with its id as Last-Event-ID acknowledges it instead. */
async function acknowledge(session, id) {
  const response = await fetch(`${base}/sessions/${session}/ack`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...credentials },
    body: JSON.stringify({ id }),
  })
  const answer = await response.text()
  if (!response.ok) throw new Error(`not acknowledged: ${answer}`)
}

async function* lines(body) {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = parts.pop()
    yield* parts
  }
}

let lastEventId
for (let wait = 500; ; wait = Math.min(wait * 2, 10_000)) {
  try {
    const response = await fetch(url, {
      headers: {
        accept: 'application/x-ndjson',
        ...credentials,
        ...(lastEventId && { 'last-event-id': lastEventId }),
      },
    })
    if (response.status === 204) break // Another reader has the session.
    if (!response.ok) {
      const problem = await response.json()
      console.error(problem.detail)
      if (!problem.retryable) process.exit(1)
      throw new Error(problem.code)
    }
    wait = 250
    let session
    for await (const line of lines(response.body)) {
      const { event, id, data } = JSON.parse(line)
      if (event === 'session') session = data.id
      else if (event === 'gap') console.error(`messages may be missing: ${data.reason}`)
      else if (event === 'status' && data.session) process.exit(0) // Taken over, or deleted.
      else if (event === 'message') await handle(data)
      // Also remember the id of the `session` event. A reconnect without any Last-Event-ID would not be told if the
      // broker has lost the session meanwhile, and would take the session from another reader.
      lastEventId = id ?? lastEventId
      if (event === 'message') await acknowledge(session, id)
    }
  } catch (error) {
    console.error(`${error.message}; trying again`)
  }
  await sleep(wait)
}
