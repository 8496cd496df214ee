import type { BaseLogger, Logger } from 'pino'

type Level = 'info' | 'warn' | 'error'

interface Line {
  level: Level
  fields: object
  text: string
}

const WINDOW_MS = 1000

/**
 * Logs at most one line of each kind in a second. The lines that are left out are counted: the next line of the kind
 * has the last of them, and their number as `more`.
 */
export class LimitedLog {
  readonly #logger: BaseLogger
  /** The kinds that were logged within the last second, with the lines left out since. */
  readonly #quiet = new Map<string, { more: number; last: Line | undefined }>()

  constructor(logger: BaseLogger) {
    this.#logger = logger
  }

  info(kind: string, fields: object, text: string): void {
    this.#add(kind, { level: 'info', fields, text })
  }

  warn(kind: string, fields: object, text: string): void {
    this.#add(kind, { level: 'warn', fields, text })
  }

  error(kind: string, fields: object, text: string): void {
    this.#add(kind, { level: 'error', fields, text })
  }

  #add(kind: string, line: Line): void {
    const quiet = this.#quiet.get(kind)
    if (quiet === undefined) return this.#write(kind, line)
    quiet.more += 1
    quiet.last = line
  }

  #write(kind: string, { level, fields, text }: Line): void {
    this.#logger[level](fields, text)
    const quiet = { more: 0, last: undefined as Line | undefined }
    this.#quiet.set(kind, quiet)
    const timer = setTimeout(() => {
      this.#quiet.delete(kind)
      const { more, last } = quiet
      if (last !== undefined) this.#write(kind, { ...last, fields: { ...last.fields, more } })
    }, WINDOW_MS)
    timer.unref()
  }
}

/**
 * The same logger, whose warnings and errors are limited by their text: for code whose lines callers can cause, and
 * whose texts are always the same few.
 */
export function limitedLogger(logger: Logger, log: LimitedLog): Logger {
  const limit =
    (level: 'warn' | 'error') =>
    (...[first, text]: [fields: object | string, text?: string]): void =>
      typeof first === 'string' ? log[level](first, {}, first) : log[level](text ?? '', first, text ?? '')
  return Object.create(logger, { warn: { value: limit('warn') }, error: { value: limit('error') } }) as Logger
}
