import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

export const ROOT = resolve(import.meta.dirname, '..')

/** A process that runs a file of bench/ and answers calls over IPC. */
export interface Worker {
  pid: number
  call<Result>(name: string, argument?: object): Promise<Result>
}

/** The processes and directories of one measurement. `end` removes them all. */
export class Stage {
  /** The Node binary for the bridge and the baselines. Load generators use the one that runs the benchmark. */
  readonly node: string
  /** The folder of the build that is measured. */
  readonly dist: string
  /** Options of Node for the bridge and the baselines only. */
  readonly nodeOptions: readonly string[]
  readonly #endings: (() => Promise<void>)[] = []

  constructor(node: string, dist: string, nodeOptions: readonly string[] = []) {
    this.node = node
    this.dist = dist
    this.nodeOptions = nodeOptions
  }

  /** Resolves when every process has ended. */
  async end(): Promise<void> {
    for (const ending of this.#endings.splice(0).reverse()) await ending()
  }

  /** A temporary directory. */
  directory(): string {
    const path = mkdtempSync(join(tmpdir(), 'causeway-bench-'))
    this.#endings.push(async () => rmSync(path, { recursive: true, force: true }))
    return path
  }

  /** Starts a program that listens on a port. Resolves when it does. */
  async program(path: string, args: string[], port: number): Promise<ChildProcess> {
    const child = spawn(path, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    let stderr = ''
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-2000)
    })
    // After SIGKILL the workers of nginx would go on.
    this.#endsWith(child, 'SIGTERM')
    while (!(await accepts(port))) {
      if (child.exitCode !== null) throw new Error(`${path} exited with ${child.exitCode}: ${stderr}`)
      await delay(5)
    }
    return child
  }

  /** Starts a load generator, a file of bench/. */
  worker(file: string): Worker {
    return this.#fork(file, process.execPath, [])
  }

  /** Starts a server that the bridge is compared with, a file of bench/. */
  baseline(file: string): Worker {
    return this.#fork(file, this.node, this.nodeOptions)
  }

  #fork(file: string, execPath: string, options: readonly string[]): Worker {
    const child = fork(join(ROOT, 'bench', file), { cwd: ROOT, execPath, execArgv: [...options, '--import', 'tsx'] })
    this.#endsWith(child)
    let calls = 0
    const waiting = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>()
    child.on('message', ({ id, result, error }: { id: number; result: never; error?: string }) => {
      if (error === undefined) waiting.get(id)!.resolve(result)
      else waiting.get(id)!.reject(new Error(`${file}: ${error}`))
      waiting.delete(id)
    })
    child.once('exit', (code, signal) => {
      for (const { reject } of waiting.values()) reject(new Error(`${file} ended with ${code ?? signal}`))
    })
    return {
      pid: child.pid!,
      call: (name, argument = {}) =>
        new Promise((done, reject) => {
          calls += 1
          waiting.set(calls, { resolve: done, reject })
          child.send({ id: calls, name, argument })
        }),
    }
  }

  /** Makes any other process end with the stage. */
  child(child: ChildProcess): void {
    this.#endsWith(child)
  }

  /** A process with Node options gets SIGTERM: it may have a profile to write before it ends. */
  #endsWith(child: ChildProcess, signal: NodeJS.Signals = this.nodeOptions.length > 0 ? 'SIGTERM' : 'SIGKILL'): void {
    const exited = once(child, 'exit')
    this.#endings.push(async () => {
      child.kill(signal)
      await exited
    })
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => done(true)).once('error', () => done(false))
    socket.once('connect', () => socket.destroy())
  })
}
