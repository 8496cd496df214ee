import type { Config } from '../config/config.ts'
import { openLogger } from '../logger.ts'
import { logNotices, type Notice } from '../notices.ts'
import { Parent } from './parent.ts'

/** For a worker's exit once it has shut down, before it is killed. */
const EXIT_MS = 2000

export interface RunParentOptions {
  config: Config
  notices: readonly Notice[]
  /** How many workers share the port. */
  count: number
}

/** Runs the workers from this process until a signal ends it. */
export async function runParent({ config, notices, count }: RunParentOptions): Promise<void> {
  const { logger, flush } = await openLogger(config, null)
  logNotices(logger, notices)
  const parent = new Parent({
    count,
    logger,
    endTimeoutMs: config.drainMs + config.shutdownMs + EXIT_MS,
    exit(code) {
      logger.info('shut down')
      flush()
      process.exit(code)
    },
  })
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => parent.end(signal))
  process.on('SIGHUP', () => parent.reload())
  parent.start()
}
