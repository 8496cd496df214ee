/** What names an event to its reader: the log it is of, without a dash, and its place there. */
export function eventId(epoch: string, sequence: number): string {
  return `${epoch}-${sequence}`
}

/** Undefined for a text that names no event. */
export function parseEventId(id: string): { epoch: string; sequence: number } | undefined {
  const [, epoch, digits] = /^([^-]*)-(\d{1,15})$/.exec(id) ?? []
  return epoch === undefined ? undefined : { epoch, sequence: Number(digits) }
}
