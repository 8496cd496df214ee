import type { EventEmitter } from 'node:events'
import type { BaseLogger } from 'pino'

export interface ShutdownOptions {
  close(): Promise<void>
  /** How long `close` may take before the process ends without it. */
  timeoutMs: number
  logger: BaseLogger
  exit(code: number): void
}

/** On the first of these signals closes and exits with 0, at the latest after the timeout; a second one exits at once. */
export function onSignals(
  process: EventEmitter,
  signals: string[],
  { close, timeoutMs, logger, exit }: ShutdownOptions,
): void {
  let closing = false

  async function shutDown(signal: string): Promise<void> {
    if (closing) {
      logger.warn(`${signal} again: exiting at once`)
      return exit(1)
    }
    closing = true
    logger.info(`${signal}: shutting down`)
    const timer = setTimeout(() => {
      logger.warn(`not everything finished within ${timeoutMs} ms: exiting`)
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
