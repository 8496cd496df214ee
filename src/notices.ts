import type { Logger } from 'pino'
import { nodeWarning } from './node-support.ts'

/** Something about the configuration that whoever reads the log should know. */
export interface Notice {
  level: 'info' | 'warn'
  text: string
}

/** Logs what there is to say about the configuration, and about this version of Node. */
export function logNotices(logger: Logger, notices: readonly Notice[]): void {
  for (const { level, text } of notices) logger[level](text)
  const warning = nodeWarning(process.version, new Date())
  if (warning !== undefined) logger.warn(warning)
}
