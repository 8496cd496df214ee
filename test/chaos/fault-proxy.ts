import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { type PacketHead, PacketScanner, type Piece } from './packet-scanner.ts'
import type { Stage } from './stage.ts'

/** `up` to the broker, `down` from it. */
export type Direction = 'up' | 'down'

/** Called at the beginning of each packet. `drop` loses it, `cut` ends its connection before it. */
export type PacketRule = (direction: Direction, packet: PacketHead) => 'pass' | 'drop' | 'cut'

const DIRECTIONS: readonly Direction[] = ['up', 'down']
/** What one direction of one connection may hold, as the buffers of a real link do; its sender has to wait then. */
const HELD_MAX_BYTES = 256 * 1024
const THROTTLE_TICK_MS = 50

/** The TCP link between a bridge and its broker, to break at will. One proxy stands before one broker. */
export class FaultProxy {
  readonly #target: number
  readonly #links = new Set<Link>()
  #servers: Server[] = []
  #port = 0
  #resets = 0
  #resetsAll = false
  /** What new connections begin with. */
  readonly #weather: Weather = {
    held: { up: false, down: false },
    delayMs: 0,
    bytesPerSecond: Infinity,
    rule: undefined,
  }

  private constructor(target: number) {
    this.#target = target
  }

  /** @param target the broker's port on 127.0.0.1 */
  static async start(stage: Stage, target: number): Promise<FaultProxy> {
    const proxy = new FaultProxy(target)
    stage.onEnd(() => proxy.refuse())
    await proxy.accept()
    return proxy
  }

  get port(): number {
    return this.#port
  }

  get url(): string {
    return `mqtt://127.0.0.1:${this.#port}`
  }

  get connections(): number {
    return this.#links.size
  }

  /** Ends every connection with RST, and with it whatever was on its way. New ones pass. */
  cut(): void {
    for (const link of this.#links) link.cut()
  }

  /** Ends every connection. New ones are refused until `accept`. */
  async refuse(): Promise<void> {
    const closing = this.#servers.map((server) => {
      const closed = once(server, 'close')
      server.close()
      return closed
    })
    this.#servers = []
    this.cut()
    await Promise.all(closing)
  }

  /** @param address one of 127.0.0.0/8; the port stays the same */
  async accept(address = '127.0.0.1'): Promise<void> {
    const server = createServer((socket) => this.#accepted(socket)).listen(this.#port, address)
    await once(server, 'listening')
    this.#port = (server.address() as AddressInfo).port
    this.#servers.push(server)
  }

  /** New connections are accepted at this address alone; the old ones carry nothing any more. */
  async moveTo(address: string): Promise<void> {
    const left = this.#servers
    this.#servers = []
    for (const server of left) server.close()
    this.halfOpen()
    await this.accept(address)
  }

  /** The next so many connections are reset when their CONNECT has come. The broker never sees it. */
  resetNext(count: number): void {
    this.#resets = count
  }

  /** As a load balancer without a living broker behind it: every connection is accepted and reset after its CONNECT. */
  resetAll(on: boolean): void {
    this.#resetsAll = on
    if (on) this.cut()
  }

  /** Nothing passes these ways until `flow`, on any connection, not even the end of one; it is kept, not lost. */
  hold(...directions: Direction[]): void {
    for (const direction of directions) this.#weather.held[direction] = true
    for (const link of this.#links) link.hold(...directions)
  }

  flow(): void {
    for (const direction of DIRECTIONS) this.#weather.held[direction] = false
    for (const link of this.#links) link.flow()
  }

  /** The connections there are now carry nothing any more and never end. New ones pass. */
  halfOpen(): void {
    for (const link of this.#links) {
      link.isDead = true
      link.hold(...DIRECTIONS)
    }
  }

  /** Everything arrives this much later, each way. */
  delay(ms: number): void {
    this.#weather.delayMs = ms
    for (const link of this.#links) link.delay(ms)
  }

  /** Each direction of each connection carries no more than this; Infinity for no limit. */
  throttle(bytesPerSecond: number): void {
    this.#weather.bytesPerSecond = bytesPerSecond
    for (const link of this.#links) link.throttle(bytesPerSecond)
  }

  /** For all packets from now on; undefined lets all pass. */
  rule(rule: PacketRule | undefined): void {
    this.#weather.rule = rule
    for (const link of this.#links) link.rule(rule)
  }

  #accepted(client: Socket): void {
    if (this.#resetsAll || this.#resets > 0) {
      this.#resets -= this.#resetsAll ? 0 : 1
      client.on('error', () => {})
      client.once('data', () => client.resetAndDestroy())
      return
    }
    const link = new Link(client, connect(this.#target, '127.0.0.1'), this.#weather)
    this.#links.add(link)
    link.onClose(() => this.#links.delete(link))
  }
}

interface Weather {
  held: Record<Direction, boolean>
  delayMs: number
  bytesPerSecond: number
  rule: PacketRule | undefined
}

/** One connection through the proxy. */
class Link {
  /** `flow` does not revive it. */
  isDead = false
  readonly #pipes: Record<Direction, Pipe>
  readonly #sockets: readonly Socket[]

  constructor(client: Socket, broker: Socket, { held, delayMs, bytesPerSecond, rule }: Weather) {
    this.#sockets = [client.setNoDelay(true), broker.setNoDelay(true)]
    const cut = () => this.cut()
    this.#pipes = { up: new Pipe('up', client, broker, cut), down: new Pipe('down', broker, client, cut) }
    this.delay(delayMs)
    this.throttle(bytesPerSecond)
    this.rule(rule)
    this.hold(...DIRECTIONS.filter((direction) => held[direction]))
  }

  onClose(listener: () => void): void {
    let open = this.#sockets.length
    for (const socket of this.#sockets) socket.once('close', () => (open -= 1) === 0 && listener())
  }

  cut(): void {
    for (const socket of this.#sockets) {
      if (socket.connecting) socket.destroy()
      else socket.resetAndDestroy()
    }
  }

  hold(...directions: Direction[]): void {
    for (const direction of directions) this.#pipes[direction].isHeld = true
  }

  flow(): void {
    if (this.isDead) return
    for (const direction of DIRECTIONS) {
      this.#pipes[direction].isHeld = false
      this.#pipes[direction].pump()
    }
  }

  delay(ms: number): void {
    for (const direction of DIRECTIONS) this.#pipes[direction].delayMs = ms
  }

  throttle(bytesPerSecond: number): void {
    for (const direction of DIRECTIONS) this.#pipes[direction].throttle(bytesPerSecond)
  }

  rule(rule: PacketRule | undefined): void {
    for (const direction of DIRECTIONS) this.#pipes[direction].rule = rule
  }
}

/** One direction of one connection. The end of its source is the last thing it carries. */
class Pipe {
  isHeld = false
  delayMs = 0
  rule: PacketRule | undefined
  readonly #direction: Direction
  readonly #from: Socket
  readonly #to: Socket
  readonly #cut: () => void
  readonly #scanner = new PacketScanner()
  readonly #queue: { due: number; bytes: Buffer | undefined }[] = []
  #heldBytes = 0
  #isDropping = false
  #bytesPerSecond = Infinity
  /** Bytes that the throttle lets pass now. */
  #budget = Infinity
  #ticks: NodeJS.Timeout | undefined

  constructor(direction: Direction, from: Socket, to: Socket, cut: () => void) {
    this.#direction = direction
    this.#from = from
    this.#to = to
    this.#cut = cut
    from.on('data', (chunk: Buffer) => {
      for (const piece of this.#scanner.scan(chunk)) if (!this.#take(piece)) return
      if (this.#heldBytes > HELD_MAX_BYTES) from.pause()
      this.pump()
    })
    from.on('error', () => {})
    from.on('close', () => {
      clearInterval(this.#ticks)
      this.#push(undefined)
      this.pump()
    })
  }

  throttle(bytesPerSecond: number): void {
    clearInterval(this.#ticks)
    this.#bytesPerSecond = bytesPerSecond
    this.#budget = bytesPerSecond === Infinity ? Infinity : 0
    if (bytesPerSecond !== Infinity && !this.#from.destroyed) {
      this.#ticks = setInterval(() => this.#tick(), THROTTLE_TICK_MS)
    }
    this.pump()
  }

  /** Writes what is due. */
  pump(): void {
    while (!this.isHeld && this.#queue.length > 0) {
      const next = this.#queue[0]!
      const wait = next.due - performance.now()
      if (wait > 0) {
        setTimeout(() => this.pump(), wait)
        return
      }
      if (next.bytes === undefined) {
        this.#queue.shift()
        // What was written still arrives; `destroy` would throw it away.
        this.#to.destroySoon()
        return
      }
      const bytes = next.bytes.subarray(0, this.#budget)
      if (bytes.length === 0) return
      if (bytes.length === next.bytes.length) this.#queue.shift()
      else next.bytes = next.bytes.subarray(bytes.length)
      this.#budget -= bytes.length
      this.#heldBytes -= bytes.length
      this.#to.write(bytes)
    }
    if (this.#heldBytes <= HELD_MAX_BYTES && this.#from.isPaused()) this.#from.resume()
  }

  /** Whether the connection goes on. */
  #take({ bytes, head }: Piece): boolean {
    if (head !== undefined) {
      const verdict = this.rule?.(this.#direction, head) ?? 'pass'
      this.#isDropping = verdict === 'drop'
      if (verdict === 'cut') {
        this.#cut()
        return false
      }
    }
    if (!this.#isDropping) this.#push(bytes)
    return true
  }

  #push(bytes: Buffer | undefined): void {
    this.#queue.push({ due: performance.now() + this.delayMs, bytes })
    this.#heldBytes += bytes?.length ?? 0
  }

  #tick(): void {
    const share = (this.#bytesPerSecond * THROTTLE_TICK_MS) / 1000
    this.#budget = Math.min(this.#budget + share, share * 2)
    this.pump()
  }
}
