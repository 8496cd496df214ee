import type { Format } from './format.ts'

/**
 * Server-sent events (HTML living standard, section 9.2). There, CR, LF and CRLF each end a line. Every line of the
 * data gets a `data:` field of its own, so that no payload can forge another field.
 */
export const eventStream: Format = {
  name: 'sse',
  mediaType: 'text/event-stream',
  contentType: 'text/event-stream; charset=utf-8',
  event: (name, id, data) => {
    // `message` is the default: browsers call `onmessage` for an event without a name.
    const eventField = name === 'message' ? '' : `event: ${name}\n`
    const idField = id === undefined ? '' : `id: ${id}\n`
    // JSON has no line breaks, and to look for each is faster than a regular expression.
    const hasLines = data.includes('\n') || data.includes('\r')
    const lines = hasLines ? data.replace(/\r\n|\r|\n/g, '\ndata: ') : data
    return Buffer.from(`${eventField}${idField}data: ${lines}\n\n`)
  },
  // A comment and `retry` are lines without a blank line behind them: a block without data becomes an empty message in
  // clients such as @microsoft/fetch-event-source, httpx-sse and r3labs/sse.
  heartbeat: Buffer.from(':\n'),
  retry: (milliseconds) => Buffer.from(`retry: ${milliseconds}\n`),
}
