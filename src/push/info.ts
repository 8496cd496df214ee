/** How a target is here. */
export const PUSH_STATES = [
  /** The session is being opened, or the broker is away. */
  'connecting',
  /** Another bridge delivers. */
  'standby',
  /** Messages are delivered as they come. */
  'active',
  /** The last request failed, and is tried again. */
  'retrying',
  /** The endpoint answered 410: nothing is sent until the next SIGHUP. */
  'paused',
  /** The broker refuses the session or a filter; it is tried again from time to time. */
  'refused',
] as const

export type PushState = (typeof PUSH_STATES)[number]

/** A target, as `GET /push` shows it. */
export interface PushInfo {
  name: string
  /** Without its query. */
  url: string
  topics: string[]
  state: PushState
  /** When the state began, in ISO 8601. */
  since: string
  /** Messages that this bridge holds for the endpoint. */
  waiting: number
  lastError?: { reason: string; at: string }
}
