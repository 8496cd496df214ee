import { spawn } from 'node:child_process'
import { once } from 'node:events'

export interface Command {
  file: string
  args: string[]
}

/** A program that follows a stream and prints a line for each event: its name, a space, its data. */
export interface Program {
  /** Resolves with what `found` makes of the lines so far, once that is something. */
  until<Found>(what: string, found: (lines: string[]) => Found | undefined): Promise<Found>
  lines(): string[]
  /** Whether it has ended, or has said that it stopped. */
  isOver(): boolean
  end(): Promise<void>
}

/** How long a program may take for anything, on a busy machine. */
const LIMIT_MS = 60_000

export function startProgram({ file, args }: Command, url: string): Program {
  const child = spawn(file, [...args, url], { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  const lines: string[] = []
  const looks = new Set<() => void>()
  let rest = ''
  let errors = ''
  const look = () => {
    for (const each of looks) each()
  }
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    const parts = (rest + chunk).split('\n')
    rest = parts.pop()!
    lines.push(...parts)
    look()
  })
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (errors += chunk))
  const exited = once(child, 'close').then(look)
  const isRunning = () => child.exitCode === null && child.signalCode === null
  return {
    lines: () => lines,
    isOver: () => !isRunning() || lines.some((line) => line.startsWith('stopped: ')),
    until(what, found) {
      return new Promise((resolve, reject) => {
        const fail = (why: string) => {
          done()
          reject(
            new Error(
              `${what}: ${why}\n${lines
                .map((line) => line.slice(0, 200))
                .slice(-5)
                .join('\n')}${errors}`,
            ),
          )
        }
        const timer = setTimeout(() => fail(`nothing for ${LIMIT_MS / 1000} s`), LIMIT_MS)
        const done = () => {
          clearTimeout(timer)
          looks.delete(tryIt)
        }
        const tryIt = () => {
          const result = found(lines)
          if (result !== undefined) {
            done()
            resolve(result)
          } else if (!isRunning()) fail('the program has ended')
        }
        looks.add(tryIt)
        tryIt()
      })
    },
    async end() {
      // A group of its own: a shell has children, and so has a browser.
      if (isRunning()) process.kill(-child.pid!, 'SIGKILL')
      await exited
    },
  }
}
