export type EventName = 'message' | 'gap' | 'status' | 'session'

/** How events are written to the wire. */
export interface Format {
  /** Its name in metrics. */
  name: string
  contentType: string
  /** @param data one JSON text, of any content */
  event(event: EventName, id: string | undefined, data: string): Buffer
  /** Sets the id to continue behind without an event. Empty where the format cannot. */
  bookmark(id: string): Buffer
  /** Written when nothing else is, to keep the connection and to notice that it broke. */
  heartbeat: Buffer
  /** Asks the reader to wait before it reconnects. Empty where the format cannot. */
  retry(milliseconds: number): Buffer
}
