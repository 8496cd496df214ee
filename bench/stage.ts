import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

export const ROOT = resolve(import.meta.dirname, '..')

/** A process of the bench's own code, asked over IPC. */
export interface Worker {
  pid: number
  call<Result>(name: string, argument?: object): Promise<Result>
}

/** The processes and directories of one measurement. They end with it. */
export class Stage {
  /** What runs the bridge and the baselines; load generators run on the Node that runs the bench. */
  readonly node: string
  /** Of the build that is measured. */
  readonly dist: string
  /** For the bridge and the baselines alone. */
  readonly nodeOptions: readonly string[]
  readonly #endings: (() => Promise<void>)[] = []

  constructor(node: string, dist: string, nodeOptions: readonly string[] = []) {
    this.node = node
    this.dist = dist
    this.nodeOptions = nodeOptions
  }

  /** Every process is gone once it resolves. */
  async end(): Promise<void> {
    for (const ending of this.#endings.splice(0).reverse()) await ending()
  }

  directory(): string {
    const path = mkdtempSync(join(tmpdir(), 'causeway-bench-'))
    this.#endings.push(async () => rmSync(path, { recursive: true, force: true }))
    return path
  }

  /** A program that listens on a port; resolves once it does. */
  async program(path: string, args: string[], port: number): Promise<ChildProcess> {
    const child = spawn(path, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    let stderr = ''
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-2000)
    })
    // Killed outright, nginx would leave its workers behind.
    this.#endsWith(child, 'SIGTERM')
    while (!(await accepts(port))) {
      if (child.exitCode !== null) throw new Error(`${path} exited with ${child.exitCode}: ${stderr}`)
      await delay(5)
    }
    return child
  }

  /** A file of ours below bench/ that makes load. */
  worker(file: string): Worker {
    return this.#fork(file, process.execPath, [])
  }

  /** One that the bridge is compared with. */
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

  /** Any other child. */
  child(child: ChildProcess): void {
    this.#endsWith(child)
  }

  /** What runs with options may have something to write as it ends. */
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
