import type { HttpAnswer } from '../http-answers.ts'
import type { Exchange, Manners } from '../raw-http.ts'
import type { Random } from '../storm/random.ts'
import type { FuzzRequest } from './requests.ts'

const BODY_LIMIT = 1_048_576

/** How a client sends and leaves: most wait for their answer, some send in bits, some are gone early. */
export function someManners(random: Random, length: number): Manners & { ending: NonNullable<Manners['ending']> } {
  const cuts = random.chance(0.2)
    ? Array.from({ length: random.integer(1, 5) }, () => random.integer(0, length)).toSorted((a, b) => a - b)
    : []
  return { cuts, ending: random.chance(0.85) ? 'wait' : random.pick(['end', 'reset']) }
}

/** What is wrong with how the bridge answered these requests of one connection. */
export function faultsOf(
  requests: readonly FuzzRequest[],
  { answers, error }: Pick<Exchange, 'answers' | 'error'>,
  { cuts = [], ending }: Manners,
): string[] {
  const faults = answers.flatMap((answer, index) => faultsOfAnswer(answer, requests[index]?.path ?? ''))
  const last = answers.at(-1)
  // A connection that the bridge says it closes, or that a stream has taken, brings no further answers; one over which
  // requests come that are none closes without those that are pending.
  const isOver =
    requests.length > 1 || last?.isOpen === true || last?.headers.get('connection')?.toLowerCase() === 'close'
  if (answers.length > requests.length) faults.push(`${answers.length} answers to ${requests.length} requests`)
  // The answer to a body that is too large, or to what is none, may be lost with the connection while the client still sends.
  const isStillSent =
    error !== undefined && (cuts.length > 0 || requests.some(({ bytes }) => bytes.length > BODY_LIMIT))
  if (ending === 'wait' && answers.length < requests.length && !isOver && !isStillSent) {
    faults.push(`${answers.length} answers to ${requests.length} requests, and nothing said why but ${error?.message}`)
  }
  return faults
}

function faultsOfAnswer({ status, headers, body }: HttpAnswer, path: string): string[] {
  const faults: string[] = []
  const text = body.toString()
  if (headers.get('set-cookie')?.startsWith('a=b')) faults.push('a header was injected')
  if (/root:.*:0:0:|"devDependencies"/.test(text)) faults.push(`a file got out by ${path}`)
  if (status < 400) return faults
  if (headers.get('content-type') !== 'application/problem+json') {
    faults.push(`${status} as ${headers.get('content-type')}`)
  }
  if (text !== '') {
    const problem = parse(text)
    if (problem?.status !== status || typeof problem?.code !== 'string') {
      faults.push(`${status} with ${text.slice(0, 200)}`)
    }
    // Nobody replies to most requests, and says so too late for their short patience.
    if (status >= 500 && problem?.code !== 'no-reply') faults.push(`${status} ${text}`)
  } else if (status >= 500) faults.push(`${status} without a word`)
  if (status === 405 && !headers.has('allow')) faults.push('405 without Allow')
  return faults
}

function parse(text: string): { status?: number; code?: string } | undefined {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
