#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { type Command, parseArguments, secretsShown, UsageError } from './command/arguments.ts'
import { helpText } from './command/help.ts'
import { type Config, ConfigError, type Flag, loadConfig } from './config/config.ts'
import { descriptorLimit, fitDescriptors } from './config/descriptors.ts'
import type { Notice } from './notices.ts'
import { beginStart } from './start-flags.ts'
import { limitStreamBuffers } from './stream-buffers.ts'
import { asWorker } from './workers/worker.ts'

/** The exit codes that `causeway --help` lists. */
const EXIT = { done: 0, failed: 1, usage: 2, noConnection: 3 } as const
const COLUMNS_MAX = 110

const readFile = (path: string) => readFileSync(path, 'utf8')
const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

function readCommand(): Command {
  try {
    return parseArguments(process.argv.slice(2))
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    process.stderr.write(`${error.message}\nSee causeway --help\n`)
    process.exit(EXIT.usage)
  }
}

interface Settings {
  config: Config
  notices: Notice[]
}

/** @throws ConfigError */
function readSettings(flags: readonly Flag[]): Settings {
  const loaded = loadConfig(process.env, readFile, flags)
  const variable = 'CAUSEWAY_HTTP_CONNECTIONS_MAX'
  const isGiven = Boolean(process.env[variable]) || flags.some((flag) => flag.variable === variable)
  const config = fitDescriptors(loaded, isGiven, openDescriptorsMax())
  const notices: Settings['notices'] = secretsShown(flags).map((name) => ({
    level: 'warn',
    text: `${name}: every user of this machine can read the command line; use ${name}-file or the variable`,
  }))
  if (config !== loaded) {
    notices.push({
      level: 'info',
      text: `${variable} is ${config.httpConnectionsMax}, because ulimit -n allows no more`,
    })
  }
  return { config, notices }
}

/** How many processes share the port. */
function workerCount({ workers }: Config): number {
  return workers === 'auto' ? availableParallelism() : Number(workers)
}

/** What `ulimit -n` says, or undefined where there is no `/proc`. */
function openDescriptorsMax(): number | undefined {
  try {
    return descriptorLimit(readFile('/proc/self/limits'))
  } catch {
    return undefined
  }
}

// What only one command needs is loaded for that command only: Fastify and MQTT.js take half a second.
async function run(command: Command): Promise<number | undefined> {
  switch (command.name) {
    case 'help':
      process.stdout.write(helpText(command.of, Math.min(process.stdout.columns ?? 100, COLUMNS_MAX)))
      return EXIT.done
    case 'version':
      process.stdout.write(`${version}\n`)
      return EXIT.done
    case 'token': {
      const { newToken } = await import('./auth/token/new-token.ts')
      const { token, entry } = newToken(command.tokenName)
      process.stdout.write(`${token}\n${JSON.stringify(entry)}\n`)
      return EXIT.done
    }
    case 'check': {
      const { check } = await import('./command/check.ts')
      const { connect, json, flags } = command
      const { output, verdict } = await check({ connect, json, readFile, settings: () => readSettings(flags) })
      process.stdout.write(output)
      return EXIT[verdict]
    }
    case 'serve': {
      limitStreamBuffers()
      const started = beginStart([...process.execArgv, process.env['NODE_OPTIONS'] ?? ''], process.versions.node)
      const worker = asWorker(process.env)
      const settings = readSettings(command.flags)
      const workers = workerCount(settings.config)
      if (worker === undefined && workers > 1) {
        const { runParent } = await import('./workers/run-parent.ts')
        await runParent({ ...settings, count: workers })
      } else {
        const { serve } = await import('./serve.ts')
        await serve({ ...settings, readFile, version, worker })
      }
      started()
      return undefined
    }
  }
}

try {
  const code = await run(readCommand())
  if (code !== undefined) process.exitCode = code
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = EXIT.failed
}
