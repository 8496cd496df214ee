import type { Random } from '../storm/random.ts'
import { pushFile, startEndpoint } from '../push-endpoint.ts'

export interface Accepted {
  topic: string
  sequence: number
  redelivered: boolean
}

export interface StormEndpoint {
  /** The push file with the target `storm`. */
  path: string
  /** The messages that it has answered with 2xx, in order. */
  accepted: Accepted[]
  /** How many requests it has failed. */
  readonly failures: number
  /** From now on it takes every message. */
  recover(): void
}

/** How often it fails: half of these with an answer, the others by closing the connection in different places. */
const FAILURE_PROBABILITY = 0.1

/** A back end that messages are pushed to, and that fails at random. */
export async function startStormEndpoint(filter: string, random: Random): Promise<StormEndpoint> {
  const endpoint = await startEndpoint()
  const accepted: Accepted[] = []
  let failures = 0
  let isWell = false
  endpoint.answer = ({ body }) => {
    endpoint.requests.length = 0
    if (!isWell && random.chance(FAILURE_PROBABILITY)) {
      failures += 1
      if (random.chance(0.5)) return 503
      if (random.chance(0.5)) return (_response, socket) => void socket.destroy()
      return (response, socket) => {
        response.writeHead(200, { 'content-length': 10 })
        response.write('half', () => socket.destroy())
      }
    }
    return (response) => {
      const {
        topic,
        payload,
        redelivered = false,
      } = JSON.parse(body.toString()) as {
        topic: string
        payload: string
        redelivered?: boolean
      }
      accepted.push({ topic, sequence: Number(payload), redelivered })
      response.writeHead(204).end()
    }
  }
  const { path } = pushFile([
    { name: 'storm', topics: [filter], url: endpoint.url, concurrency: 3, timeoutMs: 5000, retryMaxMs: 200 },
  ])
  return {
    path,
    accepted,
    get failures() {
      return failures
    },
    recover() {
      isWell = true
    },
  }
}
