import type { HttpAnswer } from '../http-answers.ts'
import type { Exchange, Sending } from '../raw-http.ts'
import type { Random } from '../storm/random.ts'
import type { FuzzRequest } from './requests.ts'

const BODY_LIMIT = 1_048_576

/** Most clients send everything at once and wait for the response; some send in several writes, some leave early. */
export function someSending(random: Random, length: number): Sending & { ending: NonNullable<Sending['ending']> } {
  const cuts = random.chance(0.2)
    ? Array.from({ length: random.integer(1, 5) }, () => random.integer(0, length)).toSorted((a, b) => a - b)
    : []
  return { cuts, ending: random.chance(0.85) ? 'wait' : random.pick(['end', 'reset']) }
}

/** What is wrong with the responses to these requests of one connection; nothing when all is well. */
export function faultsOf(
  requests: readonly FuzzRequest[],
  { answers, error }: Pick<Exchange, 'answers' | 'error'>,
  { cuts = [], ending }: Sending,
): string[] {
  const faults = answers.flatMap((answer, index) => faultsOfAnswer(answer, requests[index]?.path ?? ''))
  const last = answers.at(-1)
  // No further responses come after `Connection: close` or a stream. When several requests are pipelined and one of
  // them is malformed, the connection closes without the responses that are pending.
  const isOver =
    requests.length > 1 || last?.isOpen === true || last?.headers.get('connection')?.toLowerCase() === 'close'
  if (answers.length > requests.length) faults.push(`${answers.length} answers to ${requests.length} requests`)
  // The bridge may answer and close while the client still sends, for a body that is too large for example. The client
  // then gets RST and may lose the response.
  const isStillSent =
    error !== undefined && (cuts.length > 0 || requests.some(({ bytes }) => bytes.length > BODY_LIMIT))
  if (ending === 'wait' && answers.length < requests.length && !isOver && !isStillSent) {
    faults.push(`${answers.length} answers to ${requests.length} requests: ${error?.message ?? 'no reason'}`)
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
    // Nobody replies to most of the fuzzer's requests, and their timeouts are short: 504 `no-reply` is correct.
    if (status >= 500 && problem?.code !== 'no-reply') faults.push(`${status} ${text}`)
  } else if (status >= 500) faults.push(`${status} without a body`)
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
