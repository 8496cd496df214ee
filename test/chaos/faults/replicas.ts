import { get, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import type { Fault } from '../fault.ts'
import { startBridge } from '../bridge.ts'

export const replicaFaults: readonly Fault[] = [
  {
    name: 'replica-killed',
    what: 'two bridges in turns for all requests; one is killed with SIGKILL and started again after 5 s',
    issue: '18',
    bridge: { count: 2 },
    async strike({ bridges, seconds }) {
      await bridges[1]!.program.end('SIGKILL')
      await seconds(5)
      await bridges[1]!.start()
    },
  },
  {
    name: 'replica-frozen',
    what: 'two bridges in turns for all requests; one is frozen for 10 s',
    issue: '18',
    bridge: { count: 2 },
    async strike({ bridges, seconds }) {
      bridges[1]!.program.signal('SIGSTOP')
      await seconds(10)
      bridges[1]!.program.signal('SIGCONT')
    },
  },
  {
    name: 'one-id-two-bridges',
    what: 'a second bridge with the same CAUSEWAY_MQTT_CLIENT_ID runs for 10 s',
    issue: '16.9',
    brief: true,
    // Each bridge has to notice it by itself, on a busy machine only after some take-overs.
    withinSeconds: 10,
    settings: { MQTT_CLIENT_ID: 'twin' },
    async strike({ stage, proxy, seconds, bridges: [bridge], breaks, until }) {
      const settings = { MQTT_URL: proxy.url, MQTT_CLIENT_ID: 'twin' }
      const twin = await startBridge(stage, 'twin', { settings })
      const stream = connect(Number(new URL(twin.url).port), '127.0.0.1').on('error', () => {})
      stream.write('GET /subscribe?topic=twin/%23 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n')
      stream.resume()
      await seconds(10)
      stream.destroy()
      const log = bridge!.log()
      if (!/client.?id/i.test(log)) breaks('the log does not name the shared client id')
      await twin.program.end('SIGTERM')
      await until('the second bridge is gone', 5, () => !twin.program.isRunning)
    },
  },
  {
    name: 'stale-reader',
    what: 'a reader with an old Last-Event-ID comes to a third bridge while another has its session',
    issue: '16.10',
    bridge: { count: 3 },
    async strike({ bridges, ledger, until, breaks, note }) {
      const path = '/subscribe?topic=chaos/sure/%23&session=stale&ack=explicit&retained=false'
      const first = await openSession(bridges[0]!.url + path)
      await until('the first reader has messages', 5, () => first.ids.length > 5)
      first.leave()
      const second = await openSession(bridges[1]!.url + path)
      await until('the second reader has messages', 5, () => second.ids.length > 5)
      const third = await openSession(bridges[2]!.url + path, first.ids.at(-1))
      note(`the stale reader was answered with ${third.status}`)
      const before = ledger.publications.length
      await until('more messages are published', 5, () => ledger.publications.length > before + 120)
      if (second.text().includes('taken-over')) breaks('a stale reader took the session from the connected one')
      second.leave()
      third.leave()
    },
  },
  {
    name: 'auto-session-elsewhere',
    what: 'a reader with ack=auto dies with 50 messages unread; another bridge, no Last-Event-ID',
    issue: '16.12',
    bridge: { count: 2 },
    async strike({ bridges, seconds, breaks }) {
      const path = '/subscribe?topic=elsewhere&session=elsewhere&ack=auto&retained=false'
      const first = await openSession(bridges[0]!.url + path)
      first.pause()
      for (let number = 0; number < 50; number += 1) {
        const answer = await fetch(`${bridges[0]!.url}/publish?topic=elsewhere&qos=1`, {
          method: 'POST',
          body: `${number}`,
        })
        await answer.text()
      }
      await seconds(1)
      first.leave()
      await seconds(1)
      const second = await openSession(bridges[1]!.url + path)
      await seconds(2)
      const came = second.text().match(/"topic":"elsewhere"/g)?.length ?? 0
      const isTold = /event: gap|"present":"?unknown|unknown/.test(second.text())
      if (came < 50 && !isTold) breaks(`${50 - came} of 50 missed without a gap`)
      second.leave()
    },
  },
]

interface SessionStream {
  status: number
  ids: string[]
  text(): string
  pause(): void
  leave(): void
}

/** A session's stream read by hand: it never comes back by itself. */
function openSession(url: string, lastEventId?: string): Promise<SessionStream> {
  return new Promise((done, fail) => {
    const headers = lastEventId === undefined ? {} : { 'last-event-id': lastEventId }
    const request = get(url, { agent: false, headers }, (response: IncomingMessage) => {
      let text = ''
      const ids: string[] = []
      response.on('error', () => {})
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
        for (const [, id] of chunk.matchAll(/^id: (\S+)$/gm)) ids.push(id!)
      })
      done({
        status: response.statusCode!,
        ids,
        text: () => text,
        pause: () => void response.pause(),
        leave: () => void request.destroy(),
      })
    })
    request.on('error', fail)
  })
}
