import { execFile } from 'node:child_process'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** The command that runs Node under callgrind, which counts the instructions of the process in user mode. */
export const VALGRIND = 'valgrind'

/**
 * The options before those of Node. It begins without counting: the code is warm sooner that way. V8 compiles in the
 * main thread, because callgrind runs one thread at a time anyway.
 * @param directory where callgrind leaves its files
 */
export function callgrindOptions(directory: string): string[] {
  return [
    '--tool=callgrind',
    '--instr-atstart=no',
    '--smc-check=all-non-file',
    '--quiet',
    `--callgrind-out-file=${join(directory, 'counts')}`,
    process.execPath,
    '--single-threaded',
  ]
}

/** A running process that was started with `callgrindOptions`. */
export class Counted {
  readonly #pid: number
  readonly #directory: string

  private constructor(pid: number, directory: string) {
    this.#pid = pid
    this.#directory = directory
  }

  /** Begins to count. From now on the process runs about ten times slower than before. */
  static async begin(pid: number, directory: string): Promise<Counted> {
    await run('callgrind_control', ['-i', 'on', String(pid)])
    return new Counted(pid, directory)
  }

  /** How many instructions the process executes while `work` is done. */
  async instructions(work: () => Promise<unknown>): Promise<number> {
    await run('callgrind_control', ['-z', String(this.#pid)])
    await work()
    await run('callgrind_control', ['-d', 'counted', String(this.#pid)])
    let total = 0
    for (const name of readdirSync(this.#directory)) {
      const path = join(this.#directory, name)
      total += Number(/^totals: (\d+)$/m.exec(readFileSync(path, 'utf8'))?.[1] ?? 0)
      rmSync(path)
    }
    return total
  }
}
