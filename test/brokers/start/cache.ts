import { execFile, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const BUILD_MS = 30 * 60_000

/** Where fetched brokers stay, outside the repository: `CAUSEWAY_BROKERS_CACHE`, or `~/.cache/causeway-brokers`. */
const CACHE = process.env['CAUSEWAY_BROKERS_CACHE'] ?? join(homedir(), '.cache/causeway-brokers')

export type Execute = (file: string, args: string[], environment?: Record<string, string>) => Promise<string>

/**
 * A directory that holds what `fetch` put into it, now or in an earlier run.
 * @param name has the version in it, so that another version is fetched anew
 * @throws where fetching failed, with what the failing command said last
 */
export async function cached(
  name: string,
  fetch: (directory: string, execute: Execute) => Promise<void>,
): Promise<string> {
  const directory = join(CACHE, name)
  const complete = join(directory, '.complete')
  if (existsSync(complete)) return directory
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  console.log(`fetching ${name}, once …`)
  await fetch(directory, async (file, args, environment) => {
    try {
      const { stdout } = await run(file, args, {
        cwd: directory,
        env: { ...process.env, ...environment },
        timeout: BUILD_MS,
        maxBuffer: 1 << 26,
      })
      return stdout
    } catch (error) {
      const { stderr = '', stdout = '', message } = error as { stderr?: string; stdout?: string; message: string }
      const said = `${stdout}\n${stderr}`.split('\n').filter((line) => /error|refused|forbidden|unable/i.test(line))
      throw new Error(`${file} ${args[0]} failed: ${said.slice(0, 2).join(' ').slice(0, 300) || message}`, {
        cause: error,
      })
    }
  })
  writeFileSync(complete, '')
  return directory
}

/** Where a command is, by the search path and where Debian keeps daemons. */
export function commandPath(name: string): string | undefined {
  const { stdout, status } = spawnSync('sh', ['-c', `PATH="$PATH:/usr/sbin:/sbin"; command -v "$1"`, 'sh', name], {
    encoding: 'utf8',
  })
  return status === 0 ? stdout.trim() : undefined
}

/** What a command prints, or an empty string. */
export function printed(file: string, args: string[]): string {
  const { stdout, stderr } = spawnSync(file, args, { encoding: 'utf8', timeout: 60_000 })
  return `${stdout ?? ''}${stderr ?? ''}`
}
