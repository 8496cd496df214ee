/** The headers that the bridge posts with, names and values in turn. */
export function postHeaders(sequence: number): string[] {
  return [
    'user-agent',
    'causeway',
    'content-type',
    'application/json',
    'webhook-id',
    `msg_6df8a53b-c0ff-4c5e-9d0b-4d6a63c3a1a4-${sequence}`,
    'webhook-timestamp',
    String(Math.floor(Date.now() / 1000)),
  ]
}
