/** What a replica asks all others about a session, which has the same id at every replica. */
export type Question =
  /** Acknowledge every message up to this event. */
  | { about: 'acknowledge'; session: string; event: string }
  /** Make the broker forget the session. `at`: when it was asked, in milliseconds of `Date.now()`. */
  | { about: 'forget'; session: string; at: number }
  /** Who reads the session, seen from a reader that had this event last? */
  | { about: 'reader'; session: string; event: string }

export const QUESTIONS: readonly Question['about'][] = ['acknowledge', 'forget', 'reader']

/** What became of a question; `timeout`: a replica did not answer, and none of the others has the session. */
export const QUESTION_RESULTS = ['answered', 'nobody', 'timeout'] as const

export type QuestionResult = (typeof QUESTION_RESULTS)[number]

/** What a replica answers that has the session. Any other one answers null. */
export type Answer = Readonly<Record<string, unknown>>

/**
 * What replicas write to each other. `from` is the writer, `to` the replicas that are to read it; both are random for
 * each process, so nothing that was recorded can be used against another one.
 */
export type ClusterMessage =
  /** I am here. To all. */
  | { kind: 'hello'; from: string }
  /** So am I. */
  | { kind: 'here'; from: string; to: string[] }
  /** I am gone. Also the Last Will. */
  | { kind: 'bye'; from: string }
  /** `number` grows with each question of a replica, so that one that comes a second time shows. */
  | { kind: 'ask'; from: string; to: string[]; number: number; question: Question }
  | { kind: 'answer'; from: string; to: string[]; number: number; answer: Answer | null }

/** Undefined for anything that is no message of a replica. Without a secret anybody may have written it. */
export function readMessage(body: unknown): ClusterMessage | undefined {
  if (!isObject(body) || typeof body['from'] !== 'string') return undefined
  const { kind, to, number, question, answer } = body
  if (kind === 'hello' || kind === 'bye') return body as ClusterMessage
  if (!Array.isArray(to)) return undefined
  if (kind === 'here') return body as ClusterMessage
  if (!Number.isSafeInteger(number)) return undefined
  const isRead = kind === 'ask' ? isQuestion(question) : kind === 'answer' && (answer === null || isObject(answer))
  return isRead ? (body as ClusterMessage) : undefined
}

function isQuestion(value: unknown): value is Question {
  if (!isObject(value) || typeof value['session'] !== 'string') return false
  const { about, event, at } = value
  return about === 'forget' ? typeof at === 'number' : /^(acknowledge|reader)$/.test(String(about)) && isText(event)
}

function isText(value: unknown): boolean {
  return typeof value === 'string'
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
