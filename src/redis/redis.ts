import type { ConnectionOptions } from 'node:tls'
import type { Redis as Client } from 'ioredis'

export interface RedisOptions {
  /** `redis:` or `rediss:`, with user name, password and number of the database where those are needed. */
  url: string
  /** PEM of the CA that signed the server's certificate; undefined for those that Node knows. */
  ca: string | undefined
  /** Begins the name of every key. */
  prefix: string
  /** Called at each change. */
  onChange(change: RedisChange): void
}

export type RedisChange =
  | { state: 'connected'; address: string }
  | { state: 'away'; address: string; reason: string }
  /** It came back without what it had before. */
  | { state: 'emptied'; address: string }

/** A Lua script: Redis runs it as one step, and no other command in between. */
export interface Script {
  /** Unique in this process. */
  name: string
  lua: string
  /** Its first arguments are so many names of keys, which the prefix is put before. */
  keys: number
}

/** How long Redis may take for one answer. One that takes longer counts as away until it answers a ping. */
const ANSWER_MS = 500
const CONNECT_MS = 2000
const RETRY_MIN_MS = 100
const RETRY_MAX_MS = 2000
/** A value that is there as long as Redis has not lost its data. */
const BEGAN_KEY = 'began'

/**
 * A connection to Redis or Valkey that says at once when the server is away: nothing is queued for it, and nothing is
 * sent a second time. ioredis rather than iovalkey: it serves both, has a current major version, and six packages with
 * no lodash among them. It is loaded only where a URL is configured.
 */
export class Redis {
  readonly #client: Client
  readonly #options: RedisOptions
  readonly #scripts = new Set<string>()
  readonly #onBack: (() => void)[] = []
  readonly address: string
  #state: 'connected' | 'away' | undefined
  #reason = 'no connection yet'
  #began: string | null | undefined
  #pinging: NodeJS.Timeout | undefined
  #isClosed = false

  private constructor(client: Client, options: RedisOptions) {
    this.#client = client
    this.#options = options
    const { protocol, host } = new URL(options.url)
    this.address = `${protocol}//${host}`
    client.on('error', (error) => this.#failed(error))
    client.on('close', () => this.#failed(undefined))
    client.on('ready', () => void this.#ping())
  }

  /** Resolves after the first attempt to connect, whether it succeeded or not. */
  static async connect(options: RedisOptions): Promise<Redis> {
    const { Redis: Implementation } = await import('ioredis')
    const tls: ConnectionOptions | undefined = options.ca === undefined ? undefined : { ca: options.ca }
    const client = new Implementation(options.url, {
      lazyConnect: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      connectTimeout: CONNECT_MS,
      commandTimeout: ANSWER_MS,
      // A pipeline some of whose commands have no result throws where nobody can catch it, which ends the process.
      enableAutoPipelining: false,
      keyPrefix: options.prefix,
      retryStrategy: (attempt) => Math.min(RETRY_MIN_MS * 2 ** attempt, RETRY_MAX_MS) * (0.5 + Math.random() / 2),
      // After a failover the server that was the first one takes no writes any more.
      reconnectOnError: ({ message }) => message.startsWith('READONLY'),
      ...(tls && { tls }),
    })
    const redis = new Redis(client, options)
    await client.connect().then(
      () => redis.#ping(),
      // The event `error` says why.
      () => redis.#failed(undefined),
    )
    return redis
  }

  get isConnected(): boolean {
    return this.#state === 'connected'
  }

  /** For people. */
  get report(): { address: string; state: string; reason?: string } {
    const { address } = this
    return this.isConnected ? { address, state: 'connected' } : { address, state: 'away', reason: this.#reason }
  }

  /** Calls a function each time that Redis is back. */
  onBack(listener: () => void): void {
    this.#onBack.push(listener)
  }

  /**
   * Runs a script.
   * @throws RedisAway at once where it is known to be away, else within half a second
   */
  async run(script: Script, ...values: (string | number)[]): Promise<unknown> {
    if (!this.isConnected) throw new RedisAway(this.#reason, false)
    const { name, lua, keys } = script
    if (!this.#scripts.has(name)) {
      this.#client.defineCommand(name, { numberOfKeys: keys, lua })
      this.#scripts.add(name)
    }
    const command = (this.#client as unknown as Record<string, (...values: (string | number)[]) => Promise<unknown>>)[
      name
    ]!
    try {
      return await command.call(this.#client, ...values)
    } catch (error) {
      // A server that answers with an error is there: one that is out of memory, or does not allow scripts.
      if ((error as Error).name !== 'ReplyError') {
        this.#failed(this.#client.status === 'ready' ? (error as Error) : undefined)
      }
      throw new RedisAway((error as Error).message, true, error)
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#pinging)
    if (this.#client.status === 'ready') await this.#client.quit().catch(() => {})
    this.#client.disconnect()
  }

  #failed(error: Error | undefined): void {
    if (this.#isClosed) return
    if (error !== undefined) this.#reason = error.message
    const wasAway = this.#state === 'away'
    this.#state = 'away'
    if (!wasAway) {
      // The reason of a connection that was closed comes with the attempt after it.
      this.#reason = error?.message ?? 'the connection was closed'
      this.#options.onChange({ state: 'away', address: this.address, reason: this.#reason })
    }
    clearTimeout(this.#pinging)
    this.#pinging = setTimeout(() => void this.#ping(), RETRY_MAX_MS / 2)
    this.#pinging.unref()
  }

  /** Once it answers, it is back. A reconnect pings by itself; this is for a server that was only frozen. */
  async #ping(): Promise<void> {
    if (this.#isClosed || this.#client.status !== 'ready') return
    try {
      await this.#client.set(BEGAN_KEY, `${Date.now()}`, 'NX')
      const began = await this.#client.get(BEGAN_KEY)
      const { address } = this
      const isEmptied = this.#began !== undefined && began !== this.#began
      this.#began = began
      if (this.isConnected) return
      this.#state = 'connected'
      this.#options.onChange({ state: 'connected', address })
      if (isEmptied) this.#options.onChange({ state: 'emptied', address })
      for (const listener of this.#onBack) listener()
    } catch (error) {
      this.#failed(error as Error)
    }
  }
}

/** Redis is away, or did not do what it was asked. */
export class RedisAway extends Error {
  override readonly name = 'RedisAway'
  /** Whether it may have carried out the script all the same. */
  readonly mayBeDone: boolean

  constructor(message: string, mayBeDone: boolean, cause?: unknown) {
    super(message, { cause })
    this.mayBeDone = mayBeDone
  }
}
