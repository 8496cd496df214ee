import { existsSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { freePort } from '../../support/free-port.ts'
import type { Fault } from '../fault.ts'
import { Program } from '../stage.ts'

const CADDY = '/usr/bin/caddy'

export const clientFaults: readonly Fault[] = [
  {
    name: 'descriptors-exhausted',
    what: 'ulimit -n 200; 300 clients take every connection with a stream and come back at once, while the broker restarts',
    issue: '16.4',
    bridge: { descriptors: 200 },
    http: { connections: 8 },
    async strike({ stage, bridges: [bridge], stopBroker, startBroker, seconds, note }) {
      const clients = Array.from({ length: 300 }, () => new StubbornClient(bridge!.url, '/subscribe?topic=idle'))
      // They stay: the bridge has to live with them.
      stage.onEnd(() => clients.forEach((client) => client.leave()))
      await seconds(2)
      await stopBroker('SIGKILL')
      await seconds(2)
      await startBroker()
      note(`${clients.filter(({ isIn }) => isIn).length} of 300 streams were in`)
    },
  },
  {
    name: 'batch-through-caddy',
    what: '20,000 lines of NDJSON through Caddy as it comes; the bridge is killed behind the 5,000th result',
    issue: '16.13',
    skip: () => (existsSync(CADDY) ? undefined : 'needs Caddy'),
    async strike({ stage, bridges: [bridge], restartBridge, breaks, note }) {
      const port = await freePort()
      const file = join(stage.directory, 'Caddyfile')
      const upstream = new URL(bridge!.url).host
      writeFileSync(
        file,
        `{\n admin off\n auto_https off\n}\nhttp://127.0.0.1:${port} {\n reverse_proxy ${upstream}\n}\n`,
      )
      const environment = { ...process.env, HOME: stage.directory, XDG_DATA_HOME: stage.directory }
      const caddy = [CADDY, 'run', '--config', file, '--adapter', 'caddyfile']
      await new Program(stage, 'caddy', caddy, environment).start(port)
      let restarted: Promise<void> | undefined
      const answer = await sendBatch(`http://127.0.0.1:${port}/publish/batch`, 20_000, (results) => {
        if (results >= 5000) restarted ??= restartBridge(0, 'SIGKILL')
      })
      await restarted
      const hasEnd = answer.results.some((line) => line.includes('"end":true'))
      const said = hasEnd ? 'with its last line' : 'without its last line'
      note(`Caddy: ${answer.status}, ${answer.results.length} of 20,000 results, ${answer.ended}, ${said}`)
      // Caddy ends an answer that was cut short as it ends a whole one, so the last line has to tell them apart.
      if (hasEnd) breaks('a batch that was cut short says that it is whole')
    },
  },
]

const COME_BACK_MS = 100

/** Asks for a stream, and does so again whenever it is ended. */
class StubbornClient {
  /** Whether its stream is open. */
  isIn = false
  readonly #url: URL
  readonly #path: string
  #socket: Socket | undefined
  #isOver = false

  constructor(url: string, path: string) {
    this.#url = new URL(url)
    this.#path = path
    this.#come()
  }

  leave(): void {
    this.#isOver = true
    this.#socket?.destroy()
  }

  #come(): void {
    const { hostname, port } = this.#url
    const socket = connect(Number(port), hostname)
    this.#socket = socket
    socket.on('error', () => {})
    socket.on('data', () => {
      this.isIn = true
    })
    socket.on('close', () => {
      this.isIn = false
      if (!this.#isOver) setTimeout(() => this.#isOver || this.#come(), COME_BACK_MS)
    })
    socket.write(`GET ${this.#path} HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`)
  }
}

interface BatchAnswer {
  status: number
  results: string[]
  ended: string
}

function sendBatch(url: string, lines: number, onResults: (count: number) => void): Promise<BatchAnswer> {
  function* body(): Generator<string> {
    for (let number = 0; number < lines; number += 1) {
      yield `${JSON.stringify({ topic: `batch/${number % 10}`, payload: `${number}` })}\n`
    }
  }
  return new Promise((done) => {
    const results: string[] = []
    let rest = ''
    let status = 0
    const over = (ended: string) => done({ status, results, ended })
    const headers = { 'content-type': 'application/x-ndjson' }
    const sent = request(url, { method: 'POST', agent: false, headers }, (response) => {
      status = response.statusCode!
      response.setEncoding('utf8').on('data', (chunk: string) => {
        const parts = (rest + chunk).split('\n')
        rest = parts.pop()!
        results.push(...parts)
        onResults(results.length)
      })
      response.on('end', () => over('ended cleanly'))
      response.on('error', () => over('broken off'))
    })
    pipeline(Readable.from(body()), sent).catch(({ message }: Error) => {
      if (status === 0) over(message)
    })
  })
}
