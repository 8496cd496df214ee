import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'

export interface LogDestination {
  write(line: string): void
  /** Writes what waits, as far as somebody reads it. To be called before the process exits. */
  flush(): void
  close(): void
}

/** Most bytes that wait for whoever reads the log. Further lines are dropped and counted. */
const WAITING_MAX = 1_048_576
const RETRY_MS = 50

/**
 * Writes log lines to a file descriptor and never waits for whoever reads them. If nobody reads a pipe any more, a
 * blocking write would stop the whole process, and a write in the background would hold up its exit.
 */
export function openLog(fd: number): LogDestination {
  const { target, close } = nonBlocking(fd)
  let waiting: Buffer[] = []
  let bytes = 0
  let dropped = 0
  let timer: NodeJS.Timeout | undefined

  function flush(): void {
    timer = undefined
    while (waiting.length > 0) {
      const first = waiting[0]!
      let written = first.length
      try {
        written = writeSync(target, first)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') break
        // There is nobody to tell: the log itself is what cannot be written.
      }
      bytes -= written
      if (written < first.length) waiting[0] = first.subarray(written)
      else waiting.shift()
    }
    if (waiting.length > 0) timer = setTimeout(flush, RETRY_MS).unref()
  }

  function add(line: string): void {
    const text = Buffer.from(line)
    waiting.push(text)
    bytes += text.length
  }

  return {
    write(line) {
      if (bytes > WAITING_MAX) {
        dropped += 1
        return
      }
      if (dropped > 0) {
        const msg = `${dropped} log lines were dropped because nobody read the log`
        add(`${JSON.stringify({ level: 40, time: new Date().toISOString(), msg })}\n`)
        dropped = 0
      }
      add(line)
      if (timer === undefined) flush()
    },
    flush() {
      clearTimeout(timer)
      flush()
    },
    close() {
      clearTimeout(timer)
      waiting = []
      close()
    },
  }
}

/** A descriptor of the same file on which a write does not wait. Regular files and terminals stay as they are. */
function nonBlocking(fd: number): { target: number; close(): void } {
  const same = { target: fd, close() {} }
  try {
    const stat = fstatSync(fd)
    if (stat.isFIFO()) {
      // Opened anew, so that whoever else writes to this pipe keeps its own mode.
      const target = openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK)
      return { target, close: () => closeSync(target) }
    }
    if (stat.isSocket()) {
      // A socket cannot be opened anew. Node makes it non-blocking when it takes it over.
      const socket = new Socket({ fd, readable: false, writable: true }).on('error', () => {})
      socket.unref()
    }
    return same
  } catch {
    // No /proc, or a pipe that nobody reads: writing to it fails at once.
    return same
  }
}
