// npm install eventsource: the browsers' EventSource, for Node. In a browser, leave out the import.
import { EventSource } from 'eventsource'

const [url = 'http://localhost:8080/subscribe?topic=home/%23'] = process.argv.slice(2)

function follow(from) {
  const source = new EventSource(from)
  for (const name of ['message', 'gap', 'status', 'session']) {
    source.addEventListener(name, ({ data, lastEventId }) => {
      if (lastEventId !== '') follow.last = lastEventId
      console.log(name, data)
    })
  }
  source.addEventListener('error', ({ code }) => {
    // It comes back by itself, except after an answer that is no stream. 204: another reader has the session.
    if (source.readyState !== EventSource.CLOSED) return
    if (code === 204 || (code >= 400 && code < 500)) return console.log(`stopped: ${code}`)
    const again = new URL(url)
    if (follow.last !== undefined) again.searchParams.set('lastEventId', follow.last)
    setTimeout(() => follow(again), 1000 + Math.random() * 1000)
  })
}
follow(url)
