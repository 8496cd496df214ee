import type { Random } from '../support/storm/random.ts'
import type { Bridge, Settings } from './bridge.ts'
import type { Broker } from './broker.ts'
import type { FaultProxy } from './fault-proxy.ts'
import type { Ledger } from './ledger.ts'
import type { Load } from './load.ts'
import type { Reader, ReaderSpec } from './reader.ts'
import type { Stage } from './stage.ts'
import type { Witness } from './witness.ts'

/** One row of the table. */
export interface Fault {
  name: string
  /** What happens, with its numbers, in a few words. */
  what: string
  /** The numbers of the issue that asks for it, as `16.7`. */
  issue?: string
  /** Whether `--brief` has it. */
  brief?: boolean
  /** Why it cannot run here; undefined where it can. */
  skip?: (options: { broker: Broker['kind']; protocol: '5' | '3.1.1' }) => string | undefined
  settings?: Settings
  broker?: { config?: readonly string[]; persistence?: boolean; location?: (stage: Stage) => string }
  /**
   * The broker forgets messages of sessions that it keeps. What its log never shows as sent to a session is then its
   * loss, which no bridge can know.
   */
  brokerForgets?: boolean
  bridge?: {
    count?: number
    descriptors?: number
    heapMegabytes?: number
    preload?: (stage: Stage) => { path: string; environment: Record<string, string> }
    /** Variables that are not Causeway's own. */
    environment?: (stage: Stage) => Promise<Record<string, string>>
    hostsFile?: (stage: Stage) => string
    /** Host in the broker's URL. */
    host?: string
  }
  /** 60 messages a second of QoS 0, 1 and 2 each way, unless it says otherwise. */
  http?: Partial<Load> & { connections?: number }
  mqtt?: Partial<Load>
  /** Longest time to watch the recovery. */
  watchSeconds?: number
  /** In which all has to work again; 5 by default, `null` where the link is black and nobody can know. */
  withinSeconds?: number | null
  /** Resolves when the fault is over, and whatever it looks at afterwards. */
  strike(world: World): Promise<void>
}

/** What a fault can break. */
export interface World {
  stage: Stage
  random: Random
  broker: Broker
  proxy: FaultProxy
  bridges: readonly Bridge[]
  witness: Witness
  ledger: Ledger
  readers: readonly Reader[]
  seconds(count: number): Promise<void>
  /** Rejects with `what` where it does not come true in this many seconds. */
  until(what: string, seconds: number, condition: () => boolean | Promise<boolean>): Promise<void>
  /** One more reader, which counts as the others do. */
  addReader(spec: ReaderSpec, bridge?: number): Reader
  /** The proxy refuses meanwhile, as a host without a broker does. */
  stopBroker(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>
  /** The proxy accepts once the witness is subscribed again, so that it sees all that the bridge publishes. */
  startBroker(): Promise<void>
  /** Ends a bridge; it is started again at once on the same port, as a supervisor does. */
  restartBridge(index: number, signal: 'SIGTERM' | 'SIGKILL'): Promise<void>
  /** The fault is over now, and not only when `strike` resolves. */
  isOver(): void
  /** Something worth knowing in the row. */
  note(text: string): void
  /** A rule of this fault's own that was broken. */
  breaks(text: string): void
}
