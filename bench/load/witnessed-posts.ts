import { Agent, request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { connectAsync } from 'mqtt'
import { answerCalls } from '../answer-calls.ts'
import { now } from './payload.ts'

const TOPIC = 'bench/witnessed'

interface Post {
  answer: 'none' | 'success' | 'refusal'
  /** How often its message has come to the witness. */
  arrivals: number
}

/** What has become of the posts. */
export interface Outcome {
  posts: number
  /** With status 2xx. */
  answered: number
  /** Answered with 2xx, and never came to the witness. */
  lost: number
  /** Came to the witness more than once. */
  repeated: number
  /** With another status. */
  refused: number
  /** Without a status: the connection failed, or nothing came in time. */
  unanswered: number
  /** Not answered with 2xx, and came to the witness all the same. */
  cameAnyway: number
}

/** Begins the payloads: what was posted before the last `begin` is not counted. */
let run = 0
let posts: Post[] = []
let isPosting = false
let agent = new Agent()
let posting: Promise<unknown> = Promise.resolve()
let open = 0
let lastChangeAt = 0
/** The first number that `through` waits for, and whom it tells. */
let awaited: { from: number; resolve: (at: number) => void } | undefined

/**
 * Posts numbered messages at a steady rate, whether or not earlier posts have been answered, as many independent clients
 * would. A witness that is connected to the broker itself sees which messages have come there.
 */
answerCalls({
  /** The witness has a session that the broker keeps, so it misses nothing while the broker restarts. */
  async watch({ mqttUrl }: { mqttUrl: string }): Promise<void> {
    const witness = await connectAsync(mqttUrl, {
      protocolVersion: 5,
      clean: false,
      clientId: 'bench-witness',
      properties: { sessionExpiryInterval: 3600 },
      reconnectPeriod: 50,
    })
    witness.on('error', () => {})
    witness.on('message', (_topic, payload, { dup }) => {
      const [, ofRun, number] = payload.toString().split('-').map(Number)
      if (ofRun === run) arrived(number!, dup)
    })
    await witness.subscribeAsync(TOPIC, { qos: 1 })
  },
  /**
   * @param rate in posts per second
   * @param patienceMs how long a post waits for its answer
   */
  begin({ port, rate, patienceMs }: { port: number; rate: number; patienceMs: number }): void {
    run += 1
    posts = []
    isPosting = true
    agent = new Agent({ keepAlive: true, maxSockets: Infinity })
    posting = (async () => {
      const startedAt = now()
      while (isPosting) {
        while (posts.length < ((now() - startedAt) / 1e6) * rate) post(port, patienceMs)
        await delay(1)
      }
    })()
  },
  /** Resolves with the time at which a message that is posted from now on comes to the witness, or when time is up. */
  through({ withinMs }: { withinMs: number }): Promise<number> {
    return new Promise((resolve) => {
      awaited = { from: posts.length, resolve }
      setTimeout(() => resolve(now()), withinMs).unref()
    })
  },
  /** Posts no more, and waits for all answers, then for messages until all have come, or nothing more for `quietMs`. */
  async end({ quietMs }: { quietMs: number }): Promise<Outcome> {
    isPosting = false
    await posting
    lastChangeAt = now()
    while (open > 0 || (count(isLost) > 0 && (now() - lastChangeAt) / 1000 < quietMs)) await delay(10)
    agent.destroy()
    return {
      posts: posts.length,
      answered: count(({ answer }) => answer === 'success'),
      lost: count(isLost),
      repeated: count(({ arrivals }) => arrivals > 1),
      refused: count(({ answer }) => answer === 'refusal'),
      unanswered: count(({ answer }) => answer === 'none'),
      cameAnyway: count(({ answer, arrivals }) => answer !== 'success' && arrivals > 0),
    }
  },
})

function count(condition: (post: Post) => boolean): number {
  return posts.filter(condition).length
}

function isLost({ answer, arrivals }: Post): boolean {
  return answer === 'success' && arrivals === 0
}

function post(port: number, patienceMs: number): void {
  const own: Post = { answer: 'none', arrivals: 0 }
  const body = JSON.stringify({ topic: TOPIC, payload: `run-${run}-${posts.length}`, qos: 1 })
  posts.push(own)
  open += 1
  const headers = { 'content-type': 'application/json', 'content-length': body.length }
  const sent = request({ agent, port, host: '127.0.0.1', path: '/publish', method: 'POST', headers }, (response) => {
    response.resume().once('end', () => {
      own.answer = response.statusCode! >= 200 && response.statusCode! < 300 ? 'success' : 'refusal'
    })
  })
  sent.setTimeout(patienceMs, () => sent.destroy())
  sent.on('error', () => {})
  sent.once('close', () => {
    open -= 1
    lastChangeAt = now()
  })
  sent.end(body)
}

/** @param isAgain the broker says that it has sent this message before, so it was not published twice for that */
function arrived(number: number, isAgain: boolean): void {
  const own = posts[number]
  if (own === undefined || (isAgain && own.arrivals > 0)) return
  own.arrivals += 1
  lastChangeAt = now()
  if (awaited !== undefined && number >= awaited.from) {
    awaited.resolve(lastChangeAt)
    awaited = undefined
  }
}
