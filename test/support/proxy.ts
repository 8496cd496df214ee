import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

export interface Proxy {
  /** The broker's URL through the proxy. */
  url: string
  /** How many connections are open through it. */
  readonly connections: number
  /** Closes every connection. New ones are accepted. */
  cut(): void
  /** Closes every connection. New ones go to this broker. */
  turnTo(target: string): void
  /** Closes every connection and its port, until `accept`. */
  refuse(): Promise<void>
  accept(): Promise<void>
  /** Holds back all bytes in one direction until `flow`: `up` to the broker, `down` from it. */
  stall(direction: 'up' | 'down'): void
  /** Passes on what was held back, in order, and holds back nothing any more. */
  flow(): void
  /** Delays everything by this many milliseconds, in both directions. */
  delay(ms: number): void
}

/** A TCP proxy between a bridge and its broker, to interrupt their connections with. It ends with the test. */
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
