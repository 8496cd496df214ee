import type { EventEmitter } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { BaseLogger } from 'pino'

export interface ShutdownOptions {
  /** Called at once. */
  drain(): void
  /** Time from the signal to `close`. */
  drainMs: number
  close(): Promise<void>
  /** The process exits after this time from the end of draining, even if `close` has not finished. */
  timeoutMs: number
  logger: BaseLogger
  exit(code: number): void
}

/**
 * On the first of these signals, drains, closes and exits with 0, or exits with 0 after the timeout. A failed `close`
 * exits with 1. A second signal exits with 1 at once.
 */
export function onSignals(
  process: EventEmitter,
  signals: string[],
  { drain, drainMs, close, timeoutMs, logger, exit }: ShutdownOptions,
): void {
  let closing = false

  async function shutDown(signal: string): Promise<void> {
    if (closing) {
      logger.warn(`${signal} again: exiting at once`)
      return exit(1)
    }
    closing = true
    drain()
    if (drainMs > 0) {
      logger.info(`${signal}: unready, and serving for ${drainMs} ms more`)
      await delay(drainMs)
    }
    logger.info(`${signal}: shutting down`)
    const timer = setTimeout(() => {
      logger.warn(`shutting down took longer than ${timeoutMs} ms: exiting before all was finished`)
      exit(0)
    }, timeoutMs)
    try {
      await close()
      logger.info('shut down')
      exit(0)
    } catch (error) {
      logger.error({ err: error }, 'shutting down failed')
      exit(1)
    } finally {
      clearTimeout(timer)
    }
  }

  for (const signal of signals) process.on(signal, () => void shutDown(signal))
}
