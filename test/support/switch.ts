import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

export interface Switch {
  url: string
  /** Cuts every connection off; new ones go to this broker. */
  turnTo(url: string): void
}

/** An address at which one broker can take the place of another. It ends with the test. */
export async function startSwitch(url: string): Promise<Switch> {
  const sockets = new Set<Socket>()
  let target = url
  const server = createServer((client) => {
    const broker = connect(Number(new URL(target).port), '127.0.0.1')
    for (const [socket, other] of [[client, broker], [broker, client]] as const) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = () => sockets.forEach((socket) => socket.destroy())
  onTestFinished(() => {
    server.close()
    cut()
  })
  return {
    url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`,
    turnTo(other) {
      target = other
      cut()
    },
  }
}
