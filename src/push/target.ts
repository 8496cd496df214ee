/** What a message becomes: the JSON of a stream's message, its payload alone, or a CloudEvent. */
export const FORMATS = ['message', 'raw', 'cloudevents'] as const

export type PushFormat = (typeof FORMATS)[number]

/** An HTTP endpoint that messages are delivered to, as the push file describes it. */
export interface Target {
  name: string
  topics: string[]
  url: string
  format: PushFormat
  /** Name and value of the fixed headers. */
  headers: Record<string, string>
  /** The keys that requests are signed with; several while one replaces another. */
  keys: Buffer[]
  /** Requests at once. */
  concurrency: number
  /** Most messages in one request. Above 1 every body is an array. */
  batch: number
  /** For one request, until its whole answer is there. */
  timeoutMs: number
  /** Tries before a message is given up; 0 for no limit. */
  attempts: number
  /** Longest wait between two tries, if the endpoint does not ask for a longer one. */
  retryMaxMs: number
  /** Where messages go that were given up. */
  deadLetterTopic: string | undefined
  /** Whether a new session begins with the retained messages. */
  retained: boolean
}

/** The address without its query, which may hold a token. */
export function publicUrl({ url }: Target): string {
  const { origin, pathname } = new URL(url)
  return origin + pathname
}
