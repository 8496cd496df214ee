import type { Format } from './format.ts'

const NOTHING = Buffer.alloc(0)

/** One JSON object a line, `{event,id,data}`. Total over any data that is JSON: its line breaks can only be white space. */
export const ndjson: Format = {
  name: 'ndjson',
  contentType: 'application/x-ndjson; charset=utf-8',
  event: (event, id, data) => {
    const identifier = id === undefined ? '' : `"id":${JSON.stringify(id)},`
    return Buffer.from(`{"event":"${event}",${identifier}"data":${data.replace(/[\r\n]/g, ' ')}}\n`)
  },
  bookmark: () => NOTHING,
  heartbeat: Buffer.from('\n'),
  retry: () => NOTHING,
}
