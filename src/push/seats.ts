import { randomBytes } from 'node:crypto'
import type { Envelopes } from '../cluster/envelope.ts'
import type { CausewayError } from '../errors.ts'
import type { NetworkConnection } from '../mqtt/client/network-connection.ts'
import type { Acknowledgement } from '../mqtt/client/packets.ts'
import {
  Connection,
  type ConnectionHandlers,
  type ConnectionOptions,
  type ConnectionState,
} from '../mqtt/connection.ts'
import type { Message } from '../mqtt/message.ts'
import { FIRST_REFUSAL, refusal } from '../mqtt/reason-codes.ts'
import type { Seat } from './push.ts'

export interface SeatsOptions {
  connection: Omit<ConnectionOptions, 'handlers' | 'will' | 'role'>
  /** What bridges tell each other about seats. */
  topic: string
  envelopes: Envelopes
  /** Called once, if messages on the topic do not come back: the bridges cannot agree. */
  onUnheard(reason: string): void
}

/** What bridges tell each other. `from` is random for each process. */
interface SeatMessage {
  from: string
  kind:
    /** The bridge is there, and has these seats. */
    | 'beat'
    /** Who has these seats? If nobody says so, the bridge takes them. */
    | 'ask'
    /** The bridge leaves these seats; all of them where there are none. Also the Last Will. */
    | 'bye'
  seats?: string[]
}

interface Taken {
  id: string
  state:
    /** Nothing is asked for. */
    | 'left'
    /** To be asked for as soon as the others hear it. */
    | 'waiting'
    /** Asked for. The answers are waited for once the own question has come back. */
    | 'asking'
    | 'held'
    /** Another bridge has it. */
    | 'standby'
  /** Who has it, if that is known. */
  holder: string | undefined
  /** When the holder was heard of last, as `performance.now()`. */
  heardAt: number
  timer: NodeJS.Timeout | undefined
  handlers: { granted(): void; taken(): void }
}

const BEAT_MS = 2000
/** A bridge that has a seat and is not heard of for this is taken to be gone. */
const SILENT_MS = 7000
/** As long as the bridge has heard itself within this, it hears the others as well. */
const HEARD_MS = 3 * BEAT_MS
/** How long the others have to say that they have the seat. */
const ANSWER_MS = 1000
/** Several bridges that stand by do not ask all at once. */
const SPREAD_MS = 500
/** How long a message of the bridge to itself may take at the start, before the topic is taken to be forbidden. */
const UNHEARD_MS = 10_000
/** Most seats in one message: larger envelopes are not opened. */
const SEATS_MAX = 200
/** After so many losses over the first message, the broker is taken to refuse it that way. */
const LOSSES_MAX = 3
/** MQTT.js gives SUBSCRIBE the lowest identifier that is free, so the one of the first beat is the highest. */
const BEAT_PACKET_ID = 65_535

/**
 * Which of several bridges has the session of each push target. The broker gives a session to whoever connects with its
 * client id, and ends the connection of the one before. So a bridge that stands by must not connect while another one
 * has the session, or each would evict the other for ever.
 *
 * Each bridge says every two seconds which seats it has. One that wants a seat asks first, on a topic that all of them
 * read: whoever has the seat answers at once, and of several that ask, the first one in the order of the broker gets
 * it. A seat is free when its bridge says so, when the broker publishes its Last Will, and when it is not heard of for
 * seven seconds: it may be frozen. One that wakes up has lost its connection, so it asks again, and hears that the seat
 * is taken. Should two bridges ever take a seat at once, the broker keeps the connection of one, and the other stands
 * by.
 */
export class Seats implements ConnectionHandlers {
  readonly #options: SeatsOptions
  readonly #id = randomBytes(12).toString('hex')
  readonly #seats = new Map<string, Taken>()
  readonly #connection: Connection
  readonly #beat: NodeJS.Timeout
  #unheard: NodeJS.Timeout | undefined
  /** When a message of this bridge came back to it, as `performance.now()`; undefined where none has come. */
  #heardSelfAt: number | undefined
  /** How often the connection was lost in a row before anything came back. */
  #losses = 0
  /** The topic cannot be used, so nobody is asked. */
  #isAlone = false

  constructor(options: SeatsOptions) {
    this.#options = options
    const will = { topic: options.topic, payload: this.#seal({ kind: 'bye' }), qos: 0 as const, retain: false }
    this.#connection = new Connection({ ...options.connection, role: 'push', will, handlers: this })
    this.#beat = setInterval(() => this.#tick(), BEAT_MS)
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  /** Whether the broker answers on this connection. */
  async answers(): Promise<boolean> {
    return (
      this.#connection.network?.roundTrip().then(
        () => true,
        () => false,
      ) ?? false
    )
  }

  /** @param id names the session to all bridges that may have it */
  take(id: string, handlers: { granted(): void; taken(): void }): Seat {
    const seat: Taken = { id, state: 'left', holder: undefined, heardAt: 0, timer: undefined, handlers }
    this.#seats.set(id, seat)
    const isAlone = () => this.#isAlone
    return {
      ask: () => this.#want(seat),
      evicted: () => this.#standBy(seat, undefined),
      leave: () => {
        const wasHeld = seat.state === 'held'
        this.#setState(seat, 'left')
        if (wasHeld) this.#say('bye', [id])
      },
      get isShared() {
        return !isAlone()
      },
    }
  }

  connected(network: NetworkConnection): void {
    this.#heardSelfAt = undefined
    if (this.#isAlone) return
    this.#unheard = setTimeout(() => this.#alone('no message that it sends there comes back'), UNHEARD_MS)
    network.subscribe(this.#options.topic, 0, { identifier: undefined, retained: 'never' }).then(
      () => this.#sayFirst(network),
      (error: CausewayError) => {
        // The connection was lost, and `connected` is called again.
        if (error.kind.code !== 'broker-unavailable') this.#alone(error.message)
      },
    )
  }

  lost(): void {
    clearTimeout(this.#unheard)
    this.#losses = this.#heardSelfAt === undefined ? this.#losses + 1 : 0
    this.#heardSelfAt = undefined
    if (this.#losses >= LOSSES_MAX) return this.#alone('the broker closes the connection over a message there')
    // What was asked may not have been heard.
    for (const seat of this.#seats.values()) if (seat.state === 'asking') this.#setState(seat, 'waiting')
  }

  acknowledged({ reasonCode = 0 }: Acknowledgement): void {
    if (reasonCode >= FIRST_REFUSAL) this.#alone(refusal(reasonCode, 'The broker refused a message there').message)
  }

  message({ payload }: Message): void {
    const message = readMessage(this.#options.envelopes.open(payload))
    if (message === undefined) return
    if (message.from === this.#id) return this.#heardSelf(message)
    const seats = message.seats ?? [...this.#seats.keys()]
    for (const id of seats) {
      const seat = this.#seats.get(id)
      if (seat === undefined) continue
      if (message.kind === 'bye') this.#left(seat, message.from)
      else if (message.kind === 'beat') this.#hasIt(seat, message.from)
      else this.#isAskedFor(seat, message.from)
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#beat)
    clearTimeout(this.#unheard)
    for (const { timer } of this.#seats.values()) clearTimeout(timer)
    this.#say('bye', undefined)
    await this.#connection.close()
  }

  /** At QoS 1: its acknowledgement says whether the broker lets the bridge write here. */
  #sayFirst(network: NetworkConnection): void {
    const payload = this.#seal({ kind: 'beat', seats: [] })
    network.publish({ topic: this.#options.topic, payload, qos: 1, retain: false }, BEAT_PACKET_ID, false)
  }

  #tick(): void {
    const now = performance.now()
    if (this.#isAlone) return
    this.#say('beat', this.#held)
    // A bridge that was frozen first reads what it has not heard meanwhile.
    if (this.#heardSelfAt === undefined || now - this.#heardSelfAt > HEARD_MS) return
    for (const seat of this.#seats.values()) {
      if (seat.state === 'standby' && now - seat.heardAt > SILENT_MS) this.#askSoon(seat)
    }
  }

  #heardSelf({ kind, seats = [] }: SeatMessage): void {
    clearTimeout(this.#unheard)
    // It only took longer than expected.
    this.#isAlone = false
    const isFirst = this.#heardSelfAt === undefined
    this.#heardSelfAt = performance.now()
    if (isFirst) {
      this.#say('beat', this.#held)
      for (const seat of this.#seats.values()) if (seat.state === 'waiting') this.#want(seat)
    }
    // The will of an earlier connection of this process: it is still there.
    if (kind === 'bye') this.#say('beat', this.#held)
    if (kind !== 'ask') return
    for (const id of seats) {
      const seat = this.#seats.get(id)
      if (seat?.state !== 'asking' || seat.timer !== undefined) continue
      seat.timer = setTimeout(() => this.#grant(seat), ANSWER_MS)
    }
  }

  #want(seat: Taken): void {
    if (this.#isAlone) return this.#grant(seat)
    if (this.#heardSelfAt === undefined) return this.#setState(seat, 'waiting')
    this.#setState(seat, 'asking')
    this.#say('ask', [seat.id])
  }

  #askSoon(seat: Taken): void {
    seat.timer ??= setTimeout(() => this.#want(seat), Math.random() * SPREAD_MS)
  }

  #grant(seat: Taken): void {
    this.#setState(seat, 'held')
    this.#say('beat', [seat.id])
    seat.handlers.granted()
  }

  /** Another bridge says that it has the seat. */
  #hasIt(seat: Taken, holder: string): void {
    // Its session is open here. If the other one really has it, the broker ends the connection.
    if (seat.state === 'held' || seat.state === 'left') return
    this.#standBy(seat, holder)
  }

  /** Another bridge asks for the seat. */
  #isAskedFor(seat: Taken, by: string): void {
    if (seat.state === 'held') this.#say('beat', [seat.id])
    else if (seat.state === 'asking' && seat.timer === undefined) {
      // Its question came before the one of this bridge, for all that read them.
      this.#standBy(seat, by)
    } else if (seat.state === 'standby') {
      // If it gets the seat, it says so. If not, its holder does.
      clearTimeout(seat.timer)
      seat.timer = undefined
      seat.heardAt = Math.max(seat.heardAt, performance.now() - SILENT_MS + 2 * ANSWER_MS)
    }
  }

  #left(seat: Taken, by: string): void {
    if (seat.state === 'standby' && seat.holder === by) this.#askSoon(seat)
  }

  #standBy(seat: Taken, holder: string | undefined): void {
    const isNew = seat.state !== 'standby'
    this.#setState(seat, 'standby')
    seat.holder = holder ?? seat.holder
    seat.heardAt = performance.now()
    if (isNew) seat.handlers.taken()
  }

  #alone(reason: string): void {
    clearTimeout(this.#unheard)
    if (this.#isAlone) return
    this.#isAlone = true
    this.#options.onUnheard(reason)
    for (const seat of this.#seats.values()) if (seat.state === 'waiting' || seat.state === 'asking') this.#grant(seat)
  }

  #setState(seat: Taken, state: Taken['state']): void {
    clearTimeout(seat.timer)
    seat.timer = undefined
    seat.state = state
  }

  get #held(): string[] {
    return [...this.#seats.values()].filter(({ state }) => state === 'held').map(({ id }) => id)
  }

  /** At QoS 0: it is said again soon. */
  #say(kind: SeatMessage['kind'], seats: string[] | undefined): void {
    if (this.#isAlone) return
    for (let from = 0; from === 0 || from < (seats?.length ?? 0); from += SEATS_MAX) {
      const payload = this.#seal({ kind, ...(seats && { seats: seats.slice(from, from + SEATS_MAX) }) })
      this.#connection.network?.publish({ topic: this.#options.topic, payload, qos: 0, retain: false }, 0, false)
    }
  }

  #seal(body: Omit<SeatMessage, 'from'>): Buffer {
    return this.#options.envelopes.seal({ from: this.#id, ...body })
  }
}

/** Undefined for anything that is no message of a bridge. Without a secret anybody may have written it. */
function readMessage(body: unknown): SeatMessage | undefined {
  if (typeof body !== 'object' || body === null) return undefined
  const { from, kind, seats } = body as Record<string, unknown>
  const isKnown = kind === 'beat' || kind === 'ask' || kind === 'bye'
  const areSeats = seats === undefined ? kind === 'bye' : Array.isArray(seats) && seats.every(isText)
  return typeof from === 'string' && isKnown && areSeats ? (body as SeatMessage) : undefined
}

function isText(value: unknown): boolean {
  return typeof value === 'string'
}
