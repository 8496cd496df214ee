import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { type HttpAnswer, parseAnswers } from './http-answers.ts'

/** How a client behaves, beside what it sends. */
export interface Manners {
  /** Where the bytes are cut into writes of their own. */
  cuts?: readonly number[]
  /** After the last byte it: waits for the answers, sends FIN, or is gone without a word. */
  ending?: 'wait' | 'end' | 'reset'
}

export interface Exchange {
  answers: HttpAnswer[]
  /** Whether the server closed the connection. */
  closed: boolean
  /** Why the connection broke, where it did. */
  error: Error | undefined
  text: string
}

/** Longest time for an answer: a failure, not a pace. */
const TIMEOUT_MS = 20_000

/**
 * Sends these bytes over a connection of its own, whatever they are, and reads until the server has answered as many
 * requests as there are methods, closed, or begun a stream. Rejects over what is no HTTP, and over silence.
 */
export async function exchange(
  url: string,
  bytes: Buffer,
  methods: readonly string[],
  { cuts = [], ending = 'wait' }: Manners = {},
): Promise<Exchange> {
  const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', noDelay: true })
  // The server may close while the client still sends.
  let error: Error | undefined
  socket.on('error', (cause) => {
    error = cause
  })
  let closed = false
  socket.once('end', () => {
    closed = true
  })
  const read = readAnswers(socket, methods, ending === 'wait')
  let from = 0
  for (const to of [...cuts, bytes.length]) {
    if (to > from) socket.write(bytes.subarray(from, to))
    if (to < bytes.length) await new Promise(setImmediate)
    from = to
  }
  if (ending === 'end') socket.end()
  if (ending === 'reset') {
    if (socket.connecting) await Promise.race([once(socket, 'connect'), once(socket, 'close')])
    await new Promise(setImmediate)
    socket.resetAndDestroy()
  }
  try {
    const { answers, text } = await read
    return { answers, text, closed, error }
  } finally {
    socket.destroy()
  }
}

function readAnswers(
  socket: Socket,
  methods: readonly string[],
  impatient: boolean,
): Promise<Pick<Exchange, 'answers' | 'text'>> {
  const chunks: Buffer[] = []
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`silence after ${Buffer.concat(chunks).toString('latin1').slice(0, 500)}`)),
      TIMEOUT_MS,
    )
    const finish = (isOver: boolean) => {
      const bytes = Buffer.concat(chunks)
      try {
        const answers = parseAnswers(bytes, methods)
        const isStream = answers.at(-1)?.isOpen === true
        // Behind a stream a body is not read before its turn, nor the FIN behind that: such a client has its stream until it goes.
        const isBehindStream = isStream && answers.length < methods.length
        if (!isOver && !isBehindStream && !(impatient && (isStream || answers.length >= methods.length))) return
        resolve({ answers, text: bytes.toString('latin1') })
      } catch (error) {
        reject(error as Error)
      }
      clearTimeout(timer)
    }
    socket.on('data', (chunk) => {
      chunks.push(chunk)
      finish(false)
    })
    socket.once('close', () => finish(true))
  })
}
