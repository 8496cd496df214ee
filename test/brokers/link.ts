import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { type Packet, parser } from 'mqtt-packet'

const LINES_KEPT = 4000

/** The TCP link between a bridge and its broker: it can be cut, and it remembers which packets passed. */
export interface Link {
  url: string
  port: number
  /** Ends every connection; new ones pass. */
  cut(): void
  /** Ends every connection and accepts no new one until `accept`. */
  refuse(): Promise<void>
  accept(): Promise<void>
  /** Resolves once so many packets of this kind have come from the broker. */
  received(command: Packet['cmd'], count: number): Promise<void>
  /**
   * The packets since this was last asked, as far as they are kept, one line each: time in ms, connection, direction
   * (`>` to the broker), packet.
   */
  takePackets(): string[]
  end(): Promise<void>
}

export async function startLink(brokerPort: number): Promise<Link> {
  const sockets = new Set<Socket>()
  const lines: string[] = []
  const counts = new Map<string, number>()
  const waiting = new Set<() => void>()
  const begun = Date.now()
  let connections = 0

  function note(connection: number, text: string): void {
    lines.push(`${String(Date.now() - begun).padStart(6)} #${connection} ${text}`)
    if (lines.length > LINES_KEPT) lines.shift()
  }

  const server = createServer({ noDelay: true }, (client) => {
    connections += 1
    const connection = connections
    const broker = connect({ port: brokerPort, host: '127.0.0.1', noDelay: true })
    let protocolVersion: 3 | 4 | 5 = 4
    const watchUp = watch('>', (packet) => {
      if (packet.cmd === 'connect') protocolVersion = packet.protocolVersion ?? 4
    })
    // How packets from the broker read depends on the protocol of CONNECT.
    let watchDown: ((chunk: Buffer) => void) | undefined
    const downwards = (chunk: Buffer) => {
      watchDown ??= watch('<', (packet) => {
        counts.set(packet.cmd, (counts.get(packet.cmd) ?? 0) + 1)
        for (const look of waiting) look()
      })
      watchDown(chunk)
    }
    pass(client, broker, watchUp, '> closed')
    pass(broker, client, downwards, '< closed')

    function watch(mark: string, seen: (packet: Packet) => void): (chunk: Buffer) => void {
      let broken = false
      const parse = parser({ protocolVersion })
      parse.on('packet', (packet) => {
        note(connection, `${mark} ${describe(packet)}`)
        seen(packet)
      })
      parse.on('error', (error) => {
        broken = true
        note(connection, `${mark} cannot be read: ${error.message}`)
      })
      return (chunk) => {
        if (!broken) parse.parse(chunk)
      }
    }

    function pass(from: Socket, to: Socket, look: (chunk: Buffer) => void, closed: string): void {
      sockets.add(from)
      from.on('data', (chunk: Buffer) => {
        look(chunk)
        if (!to.write(chunk)) from.pause()
      })
      to.on('drain', () => from.resume())
      from.on('error', () => {})
      from.on('close', () => {
        if (sockets.delete(from)) note(connection, closed)
        to.destroy()
      })
    }
  })

  async function listen(port: number): Promise<void> {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  function cut(): void {
    for (const socket of sockets) socket.destroy()
  }
  async function refuse(): Promise<void> {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    cut()
    await closed
  }

  await listen(0)
  const { port } = server.address() as AddressInfo
  return {
    url: `mqtt://127.0.0.1:${port}`,
    port,
    cut,
    refuse,
    accept: () => listen(port),
    async received(command, count) {
      await new Promise<void>((resolve) => {
        const look = () => {
          if ((counts.get(command) ?? 0) < count) return
          waiting.delete(look)
          resolve()
        }
        waiting.add(look)
        look()
      })
    },
    takePackets: () => lines.splice(0),
    end: refuse,
  }
}

/** A packet in one line: what a specification's reader looks for, the payload cut short. */
function describe(packet: Packet): string {
  const {
    cmd,
    length: _length,
    topic: _topic,
    payload: _payload,
    ...rest
  } = packet as Packet & {
    topic?: unknown
    payload?: unknown
  }
  const shown = Object.entries(rest)
    .filter(([, value]) => value !== undefined && value !== null && value !== false)
    .map(([key, value]) => `${key}=${short(value)}`)
  if (packet.cmd === 'publish') {
    const payload = Buffer.from(packet.payload)
    shown.unshift(`${packet.topic} ${JSON.stringify(payload.subarray(0, 24).toString())}(${payload.length})`)
  }
  return `${cmd.toUpperCase()} ${shown.join(' ')}`
}

function short(value: unknown): string {
  if (Buffer.isBuffer(value)) return `0x${value.subarray(0, 16).toString('hex')}`
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}
