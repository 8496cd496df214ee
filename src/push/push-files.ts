import { readPushCa } from '../config/certificates.ts'
import type { Config } from '../config/config.ts'
import type { PushFiles } from './pushes.ts'
import { parseTargetsFile, TargetsFileError } from './targets-file.ts'

/**
 * Reads the file of CAUSEWAY_PUSH_FILE, those that it names, and that of CAUSEWAY_PUSH_CA_FILE, again on every call.
 *
 * @returns undefined where there are no pushes
 * @throws Error that names the variable whose file cannot be used, with all faults in it
 */
export function readPushFiles(config: Config, readFile: (path: string) => string): PushFiles | undefined {
  const { pushFile, topicLevelsMax, allowDollarTopics } = config
  if (pushFile === undefined) return undefined
  const rules = { levelsMax: topicLevelsMax, allowDollar: allowDollarTopics }
  try {
    return { targets: parseTargetsFile(readFile(pushFile), { readFile, rules }), ca: readPushCa(config, readFile) }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (!(error instanceof TargetsFileError) && code === undefined) throw error
    const what = error instanceof TargetsFileError ? message : `expected a readable file (${code})`
    throw new Error(`CAUSEWAY_PUSH_FILE ${pushFile}: ${what}`, { cause: error })
  }
}
