import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

export interface Proxy {
  /** The broker's URL through the proxy. */
  url: string
  /** Connections open through it. */
  readonly connections: number
  /** Ends every connection there is; new ones pass. */
  cut(): void
  /** Ends every connection; new ones go to this broker. */
  turnTo(target: string): void
  /** Ends every connection and accepts no new one until `accept`. */
  refuse(): Promise<void>
  accept(): Promise<void>
  /** Holds back, in order, what goes this way until `flow`: `up` to the broker, `down` from it. */
  stall(direction: 'up' | 'down'): void
  flow(): void
  /** Lets everything arrive this many milliseconds late. */
  delay(ms: number): void
}

/** The TCP link between a bridge and its broker, to break at will. It ends with the test. */
export async function startProxy(broker: string): Promise<Proxy> {
  let target = new URL(broker)
  const sockets = new Set<Socket>()
  const stalled = { up: false, down: false }
  let held: (() => void)[] = []
  let delayMs = 0

  function pass(direction: 'up' | 'down', from: Socket, to: Socket): void {
    sockets.add(from)
    from.on('data', (chunk) => {
      const write = () => void to.write(chunk)
      if (stalled[direction]) held.push(write)
      else if (delayMs > 0) setTimeout(write, delayMs)
      else write()
    })
    from.on('error', () => {})
    from.on('close', () => {
      sockets.delete(from)
      to.destroy()
    })
  }
  const server = createServer((client) => {
    const broker = connect(Number(target.port), target.hostname)
    pass('up', client, broker)
    pass('down', broker, client)
  })
  async function listen(port: number): Promise<void> {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  function cut(): void {
    held = []
    for (const socket of sockets) socket.destroy()
  }
  async function refuse(): Promise<void> {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    cut()
    await closed
  }

  onTestFinished(refuse)
  await listen(0)
  const { port } = server.address() as AddressInfo
  return {
    url: `mqtt://127.0.0.1:${port}`,
    get connections() {
      return sockets.size / 2
    },
    cut,
    turnTo(other) {
      target = new URL(other)
      cut()
    },
    refuse,
    accept: () => listen(port),
    stall(direction) {
      stalled[direction] = true
    },
    flow() {
      stalled.up = stalled.down = false
      for (const write of held.splice(0)) write()
    },
    delay(ms) {
      delayMs = ms
    },
  }
}
