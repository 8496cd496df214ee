import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** What stands between a client and its bridge: it can be cut, and answer in the bridge's place. */
export interface Cable {
  url: string
  /** How many requests it has answered itself. */
  answered(): number
  /** Cuts every connection, and answers each request with this status from now on. */
  answerWith(status: number): void
  /** From now on requests pass, and nothing comes back. */
  loseAnswers(): void
  /** Lets new connections through to this bridge; connections that are open stay. */
  plugInto(bridge: string): void
  cut(): void
  end(): Promise<void>
}

export async function startCable(bridge: string): Promise<Cable> {
  const sockets = new Set<Socket>()
  let target = new URL(bridge)
  let status: number | undefined
  let answered = 0
  let answersPass = true

  function keep(socket: Socket, other?: Socket): void {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => {
      sockets.delete(socket)
      other?.destroy()
    })
  }
  const server = createServer((client) => {
    if (status !== undefined) {
      const answer = `HTTP/1.1 ${status} Answer\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`
      client.once('data', () => {
        answered += 1
        client.end(answer)
      })
      return keep(client)
    }
    const there = connect(Number(target.port), target.hostname)
    keep(client, there)
    keep(there, client)
    client.pipe(there)
    there.on('data', (chunk: Buffer) => {
      // Without back-pressure: a test sends a few megabytes at most.
      if (answersPass) client.write(chunk)
    })
  })
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    answered: () => answered,
    answerWith(given) {
      status = given
      answered = 0
      cut()
    },
    loseAnswers() {
      answersPass = false
    },
    plugInto(given) {
      target = new URL(given)
      status = undefined
      answersPass = true
    },
    cut,
    async end() {
      server.close()
      cut()
      await once(server, 'close')
    },
  }
}
