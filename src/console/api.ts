import type { AuthMode } from './curl.ts'
import type { Problem } from './message.ts'

/** What the bridge says about itself to its page. */
export interface Settings {
  version: string
  auth: AuthMode
  /** Whether `POST /cookie` keeps credentials. */
  cookie: boolean
  /** Whether `/metrics` and `/readyz` are on this address, and not on a port of their own. */
  operation: boolean
  /** Whether there is `GET /push`. */
  push: boolean
  heartbeatMs: number
}

/** Relative to the page, so that a proxy may serve all of it below a path. */
export function urlOf(path: string): string {
  return new URL(path, document.baseURI).href
}

/** Calls the bridge with the credentials that the page has at that moment. */
export class Api {
  readonly #authorization: () => string | undefined
  readonly #onRefused: (answer: Response) => void

  /**
   * @param authorization the value of the header, undefined where there is none; then a cookie may do
   * @param onRefused called with each 401
   */
  constructor(authorization: () => string | undefined, onRefused: (answer: Response) => void) {
    this.#authorization = authorization
    this.#onRefused = onRefused
  }

  async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers)
    const authorization = this.#authorization()
    if (authorization !== undefined) headers.set('authorization', authorization)
    const answer = await fetch(urlOf(path), { cache: 'no-store', ...init, headers })
    if (answer.status === 401) this.#onRefused(answer)
    return answer
  }

  /** The JSON of a 200, or undefined. */
  async read(path: string): Promise<unknown> {
    const answer = await this.fetch(path)
    if (answer.status === 200) return answer.json()
    await answer.body?.cancel()
    return undefined
  }
}

/** The problem in an answer; an empty one where the answer is something else, as of a proxy. */
export async function problemIn(answer: Response): Promise<Problem> {
  try {
    return (await answer.json()) as Problem
  } catch {
    return {}
  }
}
