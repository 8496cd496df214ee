import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connectAsync } from 'mqtt'
import { freePort } from '../support/free-port.ts'

export interface Account {
  username: string
  password: string
}

/** Where a broker is to run. */
export interface Place {
  port: number
  /** A directory of its own, which lives until the broker is ended. */
  directory: string
  /** Who may connect, and nobody else; everybody where undefined. */
  account: Account | undefined
}

export interface Command {
  file: string
  args: string[]
  env?: Record<string, string>
}

/** A broker that is installed, or was fetched, on this machine. */
export interface Installed {
  version: string
  /** Writes what the broker needs into its directory, and says how to start it. */
  command(place: Place): Command | Promise<Command>
  /** Whether `command` takes accounts. */
  accounts: boolean
}

export interface BrokerKind {
  /** What it is called on the command line. */
  name: string
  title: string
  /** Run without being asked for by name, and in CI. */
  everywhere?: boolean
  /** It breaks MQTT itself: run only where it is named, and in no table. `documented.ts` says why. */
  unsupported?: boolean
  /** It runs in the bridge's own process. */
  embedded?: boolean
  /** Longest time from its start to its first CONNACK; 30 s unless set. */
  startMs?: number
  /**
   * Fetches and builds it where needed; a sentence where it cannot be had on this machine.
   * @param options `isBrief`: the broker need not wait as long as it does by default
   */
  install(options: { isBrief: boolean }): Promise<Installed | string>
}

export interface BrokerProcess {
  port: number
  url: string
  directory: string
  /** SIGKILL for it and for what it started. */
  kill(): Promise<void>
  /** On the same port, in the same directory; resolves once it lets a client connect. */
  start(): Promise<void>
  /** Kills it and removes its directory. */
  end(): Promise<void>
  /** The last of what it printed. */
  output(): string
}

/** A broker in a process and directory of its own, on a free port of 127.0.0.1. */
export async function startBroker(
  kind: Pick<BrokerKind, 'title' | 'startMs'>,
  installed: Installed,
  account?: Account,
): Promise<BrokerProcess> {
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'causeway-broker-'))
  const output = join(directory, 'output')
  mkdirSync(directory, { recursive: true })
  let child: ChildProcess | undefined
  let over = false
  let before: Promise<void> = Promise.resolve()

  /** One behind the other: a check that ran out of time may still be starting the broker when the next one is to. */
  function inTurn(step: () => Promise<void>): Promise<void> {
    const turn = before.then(step)
    before = turn.catch(() => {})
    return turn
  }
  async function killNow(): Promise<void> {
    const { pid } = child ?? {}
    if (child === undefined || pid === undefined) return
    const running = child.exitCode === null && child.signalCode === null
    const exited = running ? once(child, 'exit') : undefined
    try {
      // A group of its own: the scripts of Erlang and Java brokers start the real process.
      process.kill(-pid, 'SIGKILL')
    } catch {
      // Nothing of it is left.
    }
    await exited
    child = undefined
  }
  async function startNow(): Promise<void> {
    if (over || (child !== undefined && child.exitCode === null && child.signalCode === null)) return
    const { file, args, env } = await installed.command({ port, directory, account })
    const descriptor = openSync(output, 'a')
    child = spawn(file, args, {
      cwd: directory,
      detached: true,
      stdio: ['ignore', descriptor, descriptor],
      env: { ...process.env, ...env },
    })
    closeSync(descriptor)
    const failed = once(child, 'error').then(([error]) => Promise.reject(error as Error))
    failed.catch(() => {})
    const limit = Date.now() + (kind.startMs ?? 30_000)
    while (!(await Promise.race([answers(port, account), failed]))) {
      if (child.exitCode !== null) throw new Error(`${kind.title} exited with ${child.exitCode}:\n${lastOutput()}`)
      if (Date.now() > limit) throw new Error(`${kind.title} lets nobody connect:\n${lastOutput()}`)
      await delay(100)
    }
  }
  function lastOutput(): string {
    try {
      return readFileSync(output, 'utf8').slice(-2000)
    } catch {
      return ''
    }
  }
  const kill = () => inTurn(killNow)
  const start = () => inTurn(startNow)
  async function end(): Promise<void> {
    over = true
    await kill()
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  }

  try {
    await start()
  } catch (error) {
    await end()
    throw error
  }
  return { port, url: `mqtt://127.0.0.1:${port}`, directory, kill, start, end, output: lastOutput }
}

/** Whether a client can connect, over either protocol. */
async function answers(port: number, account: Account | undefined): Promise<boolean> {
  const tries = await Promise.all(([5, 4] as const).map((version) => speaks(port, version, account)))
  return tries.includes('yes')
}

/** `yes` where the broker accepts a CONNECT of this protocol version; else its refusal, or that it did not answer. */
export async function speaks(port: number, protocolVersion: 4 | 5, account?: Account): Promise<string> {
  try {
    const client = await connectAsync(
      `mqtt://127.0.0.1:${port}`,
      { protocolVersion, reconnectPeriod: 0, connectTimeout: 5000, ...account },
      false,
    )
    client.on('error', () => {})
    client.end(true)
    return 'yes'
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
