// npm install eventsource-parser: reads the events, and leaves everything else to fetch and to you.
import { EventSourceParserStream } from 'eventsource-parser/stream'
import { setTimeout as delay } from 'node:timers/promises'

const [url = 'http://localhost:8080/subscribe?topic=home/%23'] = process.argv.slice(2)
let lastEventId
let retryMs = 2000

for (;;) {
  try {
    const headers = { Accept: 'text/event-stream', ...(lastEventId && { 'Last-Event-ID': lastEventId }) }
    const response = await fetch(url, { headers })
    if (response.status === 204 || (response.status >= 400 && response.status < 500)) {
      console.log(`stopped: ${response.status}`)
      break
    }
    if (response.status !== 200) throw new Error(`answered with ${response.status}`)
    const events = response.body
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream({ onRetry: (ms) => (retryMs = ms) }))
    for await (const { event = 'message', id, data } of events) {
      if (id) lastEventId = id
      console.log(event, data)
    }
    // A clean end, as when the bridge is shut down, is not the last word either.
  } catch {
    // Not reachable, or the connection was lost.
  }
  await delay(retryMs)
}
