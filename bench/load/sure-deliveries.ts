import { createServer, get, type ClientRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { createParser } from 'eventsource-parser'
import { Client } from 'undici'
import { answerCalls } from '../answer-calls.ts'

/** Numbers a second. */
const RATE = 20
/** So often the reader of the session breaks its connection off, and comes back. */
const LEAVE_MS = 3000
const COME_BACK_MS = 100
/** How long to wait for the last numbers. */
const SETTLE_MS = 10_000

/** What became of the numbers that were posted and answered with 200. */
export interface Delivered {
  posted: number
  /** Posts that were answered with something else. */
  failed: number
  /** Numbers that the reader of the session never got. */
  missedBySession: number
  /** Numbers that the push endpoint never got. */
  missedByPush: number
}

const posted = new Set<number>()
const atSession = new Set<number>()
const atEndpoint = new Set<number>()
let failed = 0
let isOver = false
let hasLeft = false
let posting: Promise<void> = Promise.resolve()
let stream: ClientRequest | undefined
let lastEventId: string | undefined

/** Posts numbers, and follows them with a durable session that leaves and comes back and with a push endpoint. */
answerCalls({
  /** Resolves with the URL of the push endpoint. */
  async listen(): Promise<string> {
    const server = createServer((request, response) => {
      let body = ''
      request.setEncoding('utf8').on('data', (text: string) => (body += text))
      request.once('end', () => {
        atEndpoint.add(Number((JSON.parse(body) as { payload: string }).payload))
        response.writeHead(204).end()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  },
  /** Resolves once the session is open. */
  async begin({ port }: { port: number }): Promise<void> {
    const url = `http://127.0.0.1:${port}`
    await new Promise<void>((resolve) => follow(url, resolve))
    posting = post(url)
  },
  async end(): Promise<Delivered> {
    isOver = true
    await posting
    const missing = (there: ReadonlySet<number>): number => [...posted].filter((number) => !there.has(number)).length
    const until = performance.now() + SETTLE_MS
    while (missing(atSession) + missing(atEndpoint) > 0 && performance.now() < until) await delay(50)
    hasLeft = true
    stream?.destroy()
    return { posted: posted.size, failed, missedBySession: missing(atSession), missedByPush: missing(atEndpoint) }
  },
})

async function post(url: string): Promise<void> {
  const client = new Client(url)
  for (let number = 0; !isOver; number += 1) {
    const { statusCode, body } = await client.request({
      path: '/publish?topic=sure&qos=1',
      method: 'POST',
      body: `${number}`,
    })
    await body.dump()
    if (statusCode === 200) posted.add(number)
    else failed += 1
    await delay(1000 / RATE)
  }
  await client.close()
}

function follow(url: string, opened: () => void): void {
  const parser = createParser({
    onEvent({ id, event, data }) {
      lastEventId = id ?? lastEventId
      if (event === undefined) atSession.add(Number((JSON.parse(data) as { payload: string }).payload))
    },
  })
  const headers = { accept: 'text/event-stream', ...(lastEventId !== undefined && { 'last-event-id': lastEventId }) }
  const request = get(`${url}/subscribe?topic=sure&session=soak&ack=auto`, { headers, agent: false }, (response) => {
    response.setEncoding('utf8').on('data', (text: string) => parser.feed(text))
    response.on('error', () => {})
    opened()
  })
  stream = request
  const leaving = setTimeout(() => request.destroy(), LEAVE_MS)
  request.on('error', () => {})
  request.once('close', () => {
    clearTimeout(leaving)
    setTimeout(() => hasLeft || follow(url, () => {}), COME_BACK_MS)
  })
}
