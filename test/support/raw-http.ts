import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { type HttpAnswer, parseAnswers } from './http-answers.ts'

/** How a client sends its bytes and what it does afterwards. */
export interface Sending {
  /** Offsets at which the bytes are split into separate writes. */
  cuts?: readonly number[]
  /** What the client does after the last byte: wait for the responses, send FIN, or send RST. */
  ending?: 'wait' | 'end' | 'reset'
}

export interface Exchange {
  answers: HttpAnswer[]
  /** Whether the server closed the connection. */
  closed: boolean
  /** Why the connection broke, if it did. */
  error: Error | undefined
  text: string
}

/** A response that takes longer is a failure. */
const TIMEOUT_MS = 20_000

/**
 * Sends any bytes on a connection of its own, and reads until the server has answered as many requests as there are
 * methods, has closed the connection, or has begun a stream. Rejects when the response is not valid HTTP, and when none
 * comes within 20 s.
 */
export async function exchange(
  url: string,
  bytes: Buffer,
  methods: readonly string[],
  { cuts = [], ending = 'wait' }: Sending = {},
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
  isWaiting: boolean,
): Promise<Pick<Exchange, 'answers' | 'text'>> {
  const chunks: Buffer[] = []
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () =>
        reject(
          new Error(
            `no response within ${TIMEOUT_MS} ms, only ${Buffer.concat(chunks).toString('latin1').slice(0, 500)}`,
          ),
        ),
      TIMEOUT_MS,
    )
    const finish = (isOver: boolean) => {
      const bytes = Buffer.concat(chunks)
      try {
        const answers = parseAnswers(bytes, methods)
        const isStream = answers.at(-1)?.isOpen === true
        // While a stream is answered, the server reads neither the bodies of later requests nor the FIN after them.
        // Such a client keeps its stream until it closes the connection itself.
        const streamBlocksRest = isStream && answers.length < methods.length
        if (!isOver && !streamBlocksRest && !(isWaiting && (isStream || answers.length >= methods.length))) return
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
