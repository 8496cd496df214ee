import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { answerCalls } from '../answer-calls.ts'
import { percentile } from '../statistics.ts'
import { countMarks, now, readStamp, STAMP_LENGTH } from './payload.ts'

/** Connections that are opened at the same time. More would only fill the server's backlog. */
const OPENING = 100
/** About so many readers parse their events. The others only count them, which takes much less time. */
const EXAMINED = 50
/** Whatever comes is read into this buffer. A new one for each read took a tenth of this process's time. */
const BUFFER = Buffer.allocUnsafe(65_536)

interface Reader {
  socket: Socket
  events: number
  examined: boolean
  /** The part of an event that has not come completely. */
  rest: string
  /** Expected sequence of the next event; -1 before the first. */
  next: number
}

const readers: Reader[] = []
let latencies: number[] = []
let disordered = 0
let ended = 0
let firstAt = 0
let lastAt = 0

answerCalls({
  /** Opens `count` streams, at these paths in turn. Resolves when all have begun. */
  async open({ port, paths, count }: { port: number; paths: string[]; count: number }): Promise<void> {
    const examineEach = Math.max(1, Math.floor(count / EXAMINED))
    let begun = 0
    const openSome = async (): Promise<void> => {
      while (begun < count) {
        const index = begun++
        // The server writes to readers in the order of their opening, so the last of each group of readers has the
        // highest latency and is the one to examine.
        await open(port, paths[index % paths.length]!, index % examineEach === examineEach - 1)
      }
    }
    await Promise.all(Array.from({ length: OPENING }, openSome))
  },
  /** Begins to count. */
  mark(): void {
    for (const reader of readers) Object.assign(reader, { events: 0, next: -1 })
    latencies = []
    disordered = 0
    firstAt = 0
    lastAt = 0
  },
  /** Resolves when every reader has `each` events, or when nothing has come for a second. */
  async settle({ each }: { each: number }): Promise<object> {
    let before = -1
    for (let quiet = 0; quiet < 20 && readers.some(({ events }) => events < each); quiet += 1) {
      await delay(50)
      const events = total()
      if (events !== before) quiet = 0
      before = events
    }
    return report(each)
  },
  /** Events per second, measured for so many seconds. */
  async count({ seconds }: { seconds: number }): Promise<number> {
    const before = total()
    const startedAt = now()
    await delay(seconds * 1000)
    return (total() - before) / ((now() - startedAt) / 1e6)
  },
  close({ count }: { count: number }): void {
    for (const { socket } of readers.splice(0, count)) socket.destroy()
  },
})

function total(): number {
  return readers.reduce((sum, { events }) => sum + events, 0)
}

function report(each: number): object {
  const events = total()
  const incomplete = readers.filter((reader) => reader.events !== each).length
  return {
    events,
    incomplete,
    disordered,
    ended,
    seconds: (lastAt - firstAt) / 1e6,
    p50: percentile(latencies, 0.5) / 1000,
    p99: percentile(latencies, 0.99) / 1000,
    max: percentile(latencies, 1) / 1000,
  }
}

function open(port: number, path: string, examined: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const reader: Reader = { socket: undefined!, events: 0, examined, rest: '', next: -1 }
    let hasBegun = false
    function callback(length: number): boolean {
      const chunk = BUFFER.subarray(0, length)
      if (hasBegun) received(reader, chunk)
      else if (!chunk.subarray(0, OK.length).equals(OK)) reject(new Error(chunk.toString()))
      else {
        hasBegun = true
        readers.push(reader)
        resolve()
      }
      return true
    }
    const socket = (reader.socket = connect({ port, host: '127.0.0.1', onread: { buffer: BUFFER, callback } }))
    socket.setNoDelay(true)
    socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n`)
    socket.on('error', reject)
    socket.on('close', () => {
      ended += 1
    })
  })
}

const OK = Buffer.from('HTTP/1.1 200')

function received(reader: Reader, chunk: Buffer): void {
  const found = countMarks(chunk)
  reader.events += found
  if (!reader.examined) return
  lastAt = now()
  if (found > 0 && firstAt === 0) firstAt = lastAt
  const text = reader.rest + chunk.toString('latin1')
  let at = text.indexOf('~')
  for (; at >= 0 && at + STAMP_LENGTH < text.length; at = text.indexOf('~', at + STAMP_LENGTH)) {
    const { sequence, sentAt } = readStamp(text.slice(at + 1, at + 1 + STAMP_LENGTH))
    latencies.push(lastAt - sentAt)
    if (reader.next >= 0 && sequence !== reader.next) disordered += 1
    reader.next = sequence + 1
  }
  reader.rest = at < 0 ? '' : text.slice(at)
}
