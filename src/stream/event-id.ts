/**
 * The id of an event: `EPOCH-SEQUENCE`.
 * @param epoch names the process, or the session's stream, that numbered the event; without a dash
 */
export function eventId(epoch: string, sequence: number): string {
  return `${epoch}-${sequence}`
}

/** Undefined for a text that is no event id. A sequence has at most 15 digits, which a number holds exactly. */
export function parseEventId(id: string): { epoch: string; sequence: number } | undefined {
  const [, epoch, digits] = /^([^-]*)-(\d{1,15})$/.exec(id) ?? []
  return epoch === undefined ? undefined : { epoch, sequence: Number(digits) }
}
