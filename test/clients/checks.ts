import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Ground } from './ground.ts'
import { type Program, startProgram } from './program.ts'

/** What is checked of each client, in this order, by the name of its column. */
export const CHECKS = [
  'connects',
  'retained',
  '100 messages',
  'binary',
  'lines',
  '1 MB',
  'resumes after a cut',
  'after a 503',
  'after a restart',
  '401',
  '204',
] as const

export type CheckName = (typeof CHECKS)[number]
export type Outcomes = Partial<Record<CheckName, string>>

interface Message {
  topic: string
  payload: string
  encoding: string
  retain: boolean
}

const messagesOf = (lines: readonly string[]): Message[] =>
  lines
    .filter((line) => line.startsWith('message '))
    .map((line) => JSON.parse(line.slice('message '.length)) as Message)

/** How often a client that should give up may ask, until it counts as one that asks for ever. */
const ASKS_FOR_EVER = 4

/** Everything that one client is put through. @throws where the client does not do what every client has to do */
export async function checkClient(command: { file: string; args: string[] }, ground: Ground): Promise<Outcomes> {
  const outcomes: Outcomes = {}
  const program = startProgram(command, `${ground.cable.url}/subscribe?topic=t/%23`)
  try {
    await checkStream(program, ground, outcomes)
  } finally {
    await program.end()
  }
  for (const status of [401, 204] as const) outcomes[`${status}`] = await giveUp(command, ground, status)
  return outcomes
}

async function checkStream(program: Program, ground: Ground, outcomes: Outcomes): Promise<void> {
  const { cable } = ground
  let seen = 0
  /** The next messages behind those that were looked at. */
  const next = (count: number, what: string) =>
    program.until(what, (lines) => {
      const messages = messagesOf(lines)
      if (messages.length < seen + count) return undefined
      const taken = messages.slice(seen, seen + count)
      seen += count
      return taken
    })
  const numbers = (from: number, count: number) => Array.from({ length: count }, (_, index) => String(from + index))
  async function expectNumbers(from: number, count: number, what: string): Promise<void> {
    const got = (await next(count, what)).map(({ payload }) => payload)
    const wanted = numbers(from, count)
    if (got.join() !== wanted.join()) throw new Error(`${what}: wanted ${wanted.join()}, got ${got.join()}`)
  }
  const gaps = () => program.lines().filter((line) => line.startsWith('gap ')).length

  await program.until('connect', (lines) => lines.find((line) => line.startsWith('status {"broker":"connected"}')))
  outcomes.connects = 'yes'

  const [retained] = await next(1, 'the retained message')
  if (retained?.topic !== 't/retained' || !retained.retain) throw new Error(`retained: got ${JSON.stringify(retained)}`)
  outcomes.retained = 'yes'

  for (const number of numbers(0, 100)) await ground.publish('t/number', number)
  await expectNumbers(0, 100, '100 messages')
  outcomes['100 messages'] = 'yes'

  async function sameBytes(check: CheckName, bytes: Buffer): Promise<void> {
    await ground.publish('t/bytes', bytes)
    const [message] = await next(1, check)
    const got = Buffer.from(message!.payload, message!.encoding === 'base64' ? 'base64' : 'utf8')
    if (!got.equals(bytes)) throw new Error(`${check}: other bytes arrived`)
    outcomes[check] = 'yes'
  }
  await sameBytes('binary', randomBytes(1000))
  await sameBytes('lines', Buffer.from('one\ntwo\r\nthree\rfour\u0085five\u2028six\n\ndata: seven\n'))
  await sameBytes('1 MB', Buffer.from('x'.repeat(1_000_000)))

  cable.cut()
  for (const number of numbers(100, 10)) await ground.publish('t/number', number)
  await expectNumbers(100, 10, 'after a cut')
  if (gaps() > 0) throw new Error('a gap after a cut')
  outcomes['resumes after a cut'] = 'yes'

  cable.answerWith(503)
  await until(() => cable.answered() > 0)
  for (const number of numbers(110, 10)) await ground.publish('t/number', number)
  cable.plugInto(ground.url())
  await expectNumbers(110, 10, 'after a 503')
  if (gaps() > 0) throw new Error('a gap after a 503')
  outcomes['after a 503'] = 'yes'

  // SIGTERM ends streams cleanly: a client must not take that for the last word.
  await ground.restart()
  cable.plugInto(ground.url())
  await program.until('the gap after a restart', (lines) =>
    lines.find((line) => line.startsWith('gap ') && line.includes('unknown-id')),
  )
  const [again] = await next(1, 'the retained message after a restart')
  if (again?.topic !== 't/retained') throw new Error(`after a restart: got ${JSON.stringify(again)}`)
  await ground.publish('t/number', '120')
  await expectNumbers(120, 1, 'after a restart')
  outcomes['after a restart'] = 'gap'
}

/** Whether a client asks again after an answer that will stay the same. */
async function giveUp(command: { file: string; args: string[] }, ground: Ground, status: number): Promise<string> {
  const { cable } = ground
  cable.plugInto(ground.url())
  const program = startProgram(command, `${cable.url}/subscribe?topic=t/%23`)
  try {
    // First a stream: a browser would not even show its page otherwise.
    await program.until('connect', (lines) => lines.find((line) => line.startsWith('status ')))
    cable.answerWith(status)
    await until(() => program.isOver() || cable.answered() >= ASKS_FOR_EVER)
    return program.isOver() ? 'stops' : 'asks for ever'
  } finally {
    await program.end()
    cable.plugInto(ground.url())
  }
}

async function until(isSo: () => boolean): Promise<void> {
  const limit = Date.now() + 60_000
  while (!isSo()) {
    if (Date.now() > limit) throw new Error('nothing for 60 s')
    await delay(50)
  }
}
