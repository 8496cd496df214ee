import type { Format } from './format.ts'

/**
 * Server-sent events (HTML living standard, section 9.2). Total over any data: CR, LF and CRLF all end a line there,
 * so each line of the data gets a field of its own, and no payload can forge one.
 */
export const eventStream: Format = {
  name: 'sse',
  contentType: 'text/event-stream; charset=utf-8',
  event: (event, id, data) => {
    const type = event === 'message' ? '' : `event: ${event}\n`
    const identifier = id === undefined ? '' : `id: ${id}\n`
    return Buffer.from(`${type}${identifier}data: ${data.replace(/\r\n|\r|\n/g, '\ndata: ')}\n\n`)
  },
  // Without data nothing is dispatched, but the last event id is set.
  bookmark: (id) => Buffer.from(`id: ${id}\n\n`),
  heartbeat: Buffer.from(':\n\n'),
  retry: (milliseconds) => Buffer.from(`retry: ${milliseconds}\n\n`),
}
