import { readFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { pino } from 'pino'
import { type App, startApp } from './app.ts'
import { type Config, ConfigError, loadConfig } from './config/config.ts'
import { onSignals } from './shutdown.ts'

// V8 would learn from the first load, while its young generation is small, that requests live long, and put parts of them
// straight among the old objects ever after. Until the next full collection those keep all alive that they refer to, which
// takes a seventh of the processor's time in each process that it happens to.
setFlagsFromString('--no-allocation-site-pretenuring')

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

const readFile = (path: string) => readFileSync(path, 'utf8')

function readConfig(): Config {
  try {
    return loadConfig(process.env, readFile)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${error.message}\n`)
    process.exit(1)
  }
}

const config = readConfig()
const logger = pino({ level: config.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime })

function explain(error: NodeJS.ErrnoException & { port?: number }): string {
  if (error.code !== 'EADDRINUSE' && error.code !== 'EACCES') return `cannot start: ${error.message}`
  const variable =
    error.port === config.httpPort
      ? 'CAUSEWAY_HTTP_PORT'
      : error.port === config.adminPort
        ? 'CAUSEWAY_ADMIN_PORT'
        : 'CAUSEWAY_EMBEDDED_PORT'
  const why = error.code === 'EACCES' ? 'needs more rights' : 'is taken by another process'
  return `cannot start: port ${error.port} ${why}; set ${variable} to another one`
}

/** How the commands below say who calls. */
const CREDENTIALS: Record<string, string> = {
  none: '',
  token: " -H 'Authorization: Bearer TOKEN'",
  jwt: " -H 'Authorization: Bearer TOKEN'",
  broker: ' -u USER:PASSWORD',
}

function welcome({ url, adminUrl, embeddedUrl, isReachable }: App): void {
  if (embeddedUrl !== undefined) logger.info(`embedded broker, without persistence or access control: ${embeddedUrl}`)
  const credentials = CREDENTIALS[config.auth]!
  logger.info(`publish:   curl${credentials} -d 21.5 '${url}/publish?topic=home/temp'`)
  logger.info(`subscribe: curl${credentials} -N '${url}/subscribe?topic=home/%23'`)
  logger.info(`metrics:   ${adminUrl}/metrics`)
  logger.info(`docs:      ${url}/docs`)
  if (!isReachable()) logger.warn('started without the broker; publishes and subscriptions get 503 until it is there')
}

try {
  const starting = startApp({ config, readFile, logger, version })
  // Before it has started, too: as process 1 of a container it would not hear them otherwise.
  onSignals(process, ['SIGTERM', 'SIGINT'], {
    close: async () => (await starting).close(),
    timeoutMs: config.shutdownMs,
    logger,
    exit: (code) => process.exit(code),
  })
  process.on('SIGHUP', async () => (await starting).reload())
  welcome(await starting)
} catch (error) {
  logger.fatal(explain(error as Error))
  process.exit(1)
}
