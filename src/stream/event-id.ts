/** Ends the epoch of an id, which is hexadecimal otherwise. */
const LACKS_RETAINED = 'r'

/**
 * The id of an event: `EPOCH-SEQUENCE`.
 * @param epoch names the process, or the session's stream, that numbered the event; without a dash, hexadecimal
 * @param lacksRetained whether a client that continues from here has to get the retained messages first: it may have
 *   left before it got all of them
 */
export function eventId(epoch: string, sequence: number, lacksRetained = false): string {
  return `${epoch}${lacksRetained ? LACKS_RETAINED : ''}-${sequence}`
}

/** Undefined for a text that is no event id. A sequence has at most 15 digits, which a number holds exactly. */
export function parseEventId(id: string): { epoch: string; sequence: number; lacksRetained: boolean } | undefined {
  const [, epoch, mark, digits] = /^([^-]*?)(r?)-(\d{1,15})$/.exec(id) ?? []
  return epoch === undefined ? undefined : { epoch, sequence: Number(digits), lacksRetained: mark === LACKS_RETAINED }
}
