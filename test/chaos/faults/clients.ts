import { existsSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { freePort } from '../../support/free-port.ts'
import type { Fault } from '../fault.ts'
import { Program } from '../stage.ts'

const CADDY = '/usr/bin/caddy'

export const clientFaults: readonly Fault[] = [
  {
    name: 'descriptors-exhausted',
    what: '128 descriptors; streams take every descriptor there is while the broker restarts without its state',
    issue: '16.4',
    bridge: { descriptors: 128 },
    http: { connections: 8 },
    watchSeconds: 20,
    async strike({ stage, bridges: [bridge], stopBroker, startBroker, seconds, note }) {
      const { hostname, port } = new URL(bridge!.url)
      const sockets: Socket[] = []
      for (let index = 0; index < 200; index += 1) {
        const socket = connect(Number(port), hostname).on('error', () => {})
        socket.write(`GET /subscribe?topic=idle/${index % 10} HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`)
        socket.resume()
        sockets.push(socket)
      }
      // They stay: the bridge has to live with them.
      stage.onEnd(() => sockets.forEach((socket) => socket.destroy()))
      await seconds(2)
      await stopBroker('SIGKILL')
      await seconds(2)
      await startBroker()
      note(`${sockets.filter(({ destroyed }) => !destroyed).length} of 200 streams were let in`)
    },
  },
  {
    name: 'batch-through-caddy',
    what: '20,000 lines of NDJSON through Caddy as it comes',
    issue: '16.13',
    skip: () => (existsSync(CADDY) ? undefined : 'needs Caddy'),
    async strike({ stage, bridges: [bridge], breaks, note }) {
      const port = await freePort()
      const file = join(stage.directory, 'Caddyfile')
      const upstream = new URL(bridge!.url).host
      writeFileSync(
        file,
        `{\n admin off\n auto_https off\n}\nhttp://127.0.0.1:${port} {\n reverse_proxy ${upstream}\n}\n`,
      )
      const environment = { ...process.env, HOME: stage.directory, XDG_DATA_HOME: stage.directory }
      await new Program(stage, 'caddy', [CADDY, 'run', '--config', file, '--adapter', 'caddyfile'], environment).start(
        port,
      )
      const lines = 20_000
      const answer = await sendBatch(`http://127.0.0.1:${port}/publish/batch`, lines)
      const results = answer.text.split('\n').filter((line) => line !== '')
      const end = results.findLast((line) => line.includes('"end":true'))
      const count = results.length - (end === undefined ? 0 : 1)
      note(`Caddy: ${answer.status}, ${count} of ${lines} results, ${answer.ended}`)
      // Cut short is what may happen to any answer; that it looks whole is the fault.
      if (end === undefined && count < lines && answer.ended === 'ended cleanly') {
        breaks(`a batch that was cut short to ${count} of ${lines} ended cleanly`)
      }
      if (end === undefined && count === lines) note('no end line')
    },
  },
]

function sendBatch(url: string, lines: number): Promise<{ status: number; text: string; ended: string }> {
  return new Promise((done) => {
    let text = ''
    let status = 0
    const headers = { 'content-type': 'application/x-ndjson' }
    const sent = request(url, { method: 'POST', agent: false, headers }, (response) => {
      status = response.statusCode!
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => done({ status, text, ended: 'ended cleanly' }))
      response.on('error', () => done({ status, text, ended: 'broken off' }))
    })
    sent.on('error', ({ message }) => done({ status, text, ended: message }))
    async function write(): Promise<void> {
      for (let number = 0; number < lines && !sent.destroyed; number += 1) {
        const goesOn = sent.write(`${JSON.stringify({ topic: `batch/${number % 10}`, payload: `${number}` })}\n`)
        if (!goesOn) await new Promise((resolve) => sent.once('drain', resolve).once('close', resolve))
      }
      sent.end()
    }
    void write()
  })
}
