// npm install @microsoft/fetch-event-source: for browsers that have to send an Authorization header.
import { fetchEventSource } from '@microsoft/fetch-event-source'

const [url = 'http://localhost:8080/subscribe?topic=home/%23'] = process.argv.slice(2)

// The package is made for browsers. Node lacks these.
globalThis.window ??= globalThis
globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} }

class Stop extends Error {}

await fetchEventSource(url, {
  // Otherwise it closes the stream whenever the page is hidden.
  openWhenHidden: true,
  async onopen({ status }) {
    if (status === 204 || (status >= 400 && status < 500)) throw new Stop(`stopped: ${status}`)
    if (status !== 200) throw new Error(`answered with ${status}`)
  },
  onmessage: ({ event, data }) => console.log(event || 'message', data),
  // It takes a clean end, as when the bridge is shut down, for the last word. Throw, so that it comes back.
  onclose() {
    throw new Error('the stream has ended')
  },
  // It tries again for ever, also after a 401, unless this throws.
  onerror(error) {
    if (error instanceof Stop) throw error
    return 1000 + Math.random() * 1000
  },
}).catch(({ message }) => console.log(message))
