import type { EventName, JsonText } from '../events.ts'

/** How events are written to the wire. */
export interface Format {
  /** Its name in metrics. */
  name: string
  /** Its media type, as clients name it in `Accept`. */
  mediaType: string
  /** Value of the response's Content-Type header. */
  contentType: string
  event(name: EventName, id: string | undefined, data: JsonText): Buffer
  /** Written at intervals, so that both sides and proxies notice a broken connection. */
  heartbeat: Buffer
  /**
   * Asks the client to wait that long before it reconnects. Stands before an event or at the end of the stream. Empty
   * where the format cannot do that.
   */
  retry(milliseconds: number): Buffer
}
