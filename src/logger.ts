import { type Logger, pino } from 'pino'
import type { Config } from './config/config.ts'
import { openLog } from './log-destination.ts'

export interface OpenLogger {
  logger: Logger
  /** Writes what waits, as far as somebody reads it. To be called before the process exits. */
  flush(): void
}

/** Makes a line of JSON one for people. The package is loaded for them only. */
async function prettyFormat(colorize: boolean): Promise<(line: string) => string> {
  const { prettyFactory } = await import('pino-pretty')
  return prettyFactory({ colorize, singleLine: true, translateTime: 'SYS:HH:MM:ss.l' }) as (line: string) => string
}

/**
 * The log of this process, on stdout.
 * @param base what every line has
 */
export async function openLogger({ logLevel, logFormat }: Config, base: object | null): Promise<OpenLogger> {
  const log = openLog(process.stdout.fd)
  const isPretty = logFormat === 'pretty' || (logFormat === 'auto' && process.stdout.isTTY)
  const format = isPretty ? await prettyFormat(process.stdout.isTTY && process.stdout.hasColors()) : undefined
  const logger = pino(
    { level: logLevel, base, timestamp: pino.stdTimeFunctions.isoTime },
    format === undefined ? log : { write: (line) => log.write(format(line)) },
  )
  return { logger, flush: () => log.flush() }
}
