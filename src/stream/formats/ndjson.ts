import type { Format } from './format.ts'

const NOTHING = Buffer.alloc(0)

/**
 * One JSON object on each line: `{"event":…,"id":…,"data":…}`. Inside JSON, line breaks can only be white space, so
 * replacing them by spaces keeps each event on one line, whatever its data.
 */
export const ndjson: Format = {
  name: 'ndjson',
  mediaType: 'application/x-ndjson',
  contentType: 'application/x-ndjson; charset=utf-8',
  event: (name, id, data) => {
    const idField = id === undefined ? '' : `"id":${JSON.stringify(id)},`
    return Buffer.from(`{"event":"${name}",${idField}"data":${data.replace(/[\r\n]/g, ' ')}}\n`)
  },
  // No empty line: readers that parse each line as JSON fail at one.
  heartbeat: Buffer.from('{"event":"heartbeat"}\n'),
  retry: () => NOTHING,
}
