import { execFile } from 'node:child_process'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CodeMap, functionsIn } from './callgrind-file.ts'

const run = promisify(execFile)

/** The command that runs Node under callgrind, which counts the instructions of the process in user mode. */
export const VALGRIND = 'valgrind'

/** With it, V8 writes where it has put which code, for `Counted.functions`. */
export const NAME_CODE = '--perf-basic-prof'

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
    const counts = await this.#counts(work)
    return counts.reduce((total, text) => total + Number(/^totals: (\d+)$/m.exec(text)?.[1] ?? 0), 0)
  }

  /**
   * How many of them each function executes itself. To be called once, at the end.
   * @param work the process was started with `NAME_CODE` also
   */
  async functions(work: () => Promise<unknown>): Promise<Map<string, number>> {
    const counts = await this.#counts(work)
    const path = `/tmp/perf-${this.#pid}.map`
    const code = new CodeMap(readFileSync(path, 'utf8'))
    rmSync(path)
    const total = new Map<string, number>()
    for (const [name, count] of counts.flatMap((text) => [...functionsIn(text, code)])) {
      total.set(name, (total.get(name) ?? 0) + count)
    }
    return total
  }

  async #counts(work: () => Promise<unknown>): Promise<string[]> {
    await run('callgrind_control', ['-z', String(this.#pid)])
    await work()
    await run('callgrind_control', ['-d', 'counted', String(this.#pid)])
    return readdirSync(this.#directory).map((name) => {
      const path = join(this.#directory, name)
      const text = readFileSync(path, 'utf8')
      rmSync(path)
      return text
    })
  }
}
