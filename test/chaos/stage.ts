import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, openSync, closeSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** The processes, sockets and directories of one fault. `end` closes them, the newest first. */
export class Stage {
  readonly #endings: (() => unknown)[] = []
  /** Holds the logs of all processes until `end`. */
  readonly directory = mkdtempSync(join(tmpdir(), 'causeway-chaos-'))

  /** @param keepsLogs whether the directory stays */
  constructor(keepsLogs = false) {
    if (!keepsLogs) this.onEnd(() => rmSync(this.directory, { recursive: true, force: true }))
  }

  onEnd(ending: () => unknown): void {
    this.#endings.push(ending)
  }

  async end(): Promise<void> {
    for (const ending of this.#endings.splice(0).reverse()) await ending()
  }
}

const SETPRIV = '/usr/bin/setpriv'
/** Programs end also where this process is killed. */
const END_WITH_US = existsSync(SETPRIV) ? [SETPRIV, '--pdeathsig', 'KILL'] : []

/** A program that can be started again. What it prints is appended to one file, so a killed program loses no line. */
export class Program {
  readonly logFile: string
  readonly #command: readonly string[]
  readonly #environment: NodeJS.ProcessEnv
  #child: ChildProcess | undefined

  constructor(stage: Stage, name: string, command: readonly string[], environment: NodeJS.ProcessEnv = process.env) {
    this.logFile = join(stage.directory, `${name}.log`)
    this.#command = command
    this.#environment = environment
    stage.onEnd(() => this.end('SIGKILL'))
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Undefined where it has not been started. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** How the last process ended; undefined while it runs. */
  get ending(): string | undefined {
    const { exitCode, signalCode } = this.#child ?? {}
    return signalCode ?? (typeof exitCode === 'number' ? `code ${exitCode}` : undefined)
  }

  /** Resolves once something accepts connections at this port of 127.0.0.1; rejects where the program ends first. */
  async start(port: number): Promise<void> {
    const log = openSync(this.logFile, 'a')
    const [path, ...args] = [...END_WITH_US, ...this.#command]
    this.#child = spawn(path!, args, { env: this.#environment, stdio: ['ignore', log, log] })
    closeSync(log)
    while (!(await accepts(port))) {
      if (!this.isRunning) throw new Error(`${this.#command[0]} ended with ${this.ending}, see ${this.logFile}`)
      await delay(10)
    }
  }

  signal(signal: NodeJS.Signals): void {
    if (this.isRunning) this.#child!.kill(signal)
  }

  /** Resolves when the process is gone. A stopped process is continued, so that it can act on the signal. */
  async end(signal: NodeJS.Signals): Promise<void> {
    if (!this.isRunning) return
    const exited = once(this.#child!, 'exit')
    this.#child!.kill(signal)
    this.#child!.kill('SIGCONT')
    await exited
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('error', () => done(false))
    socket.once('connect', () => {
      socket.destroy()
      done(true)
    })
  })
}
