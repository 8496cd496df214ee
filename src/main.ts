import { readFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { pino } from 'pino'
import { type App, startApp } from './app.ts'
import { type Config, ConfigError, loadConfig } from './config/config.ts'
import { onSignals } from './shutdown.ts'

// Switch off allocation-site pretenuring. During the first load V8's young generation is still small, so objects of
// requests survive in it, and V8 may decide to allocate them as old objects from then on. Only a full garbage
// collection frees old objects and all that they refer to. In a process where that happens it costs a seventh of the
// CPU time.
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
  const why = error.code === 'EACCES' ? 'is not allowed for this user' : 'is in use by another process'
  return `cannot start: port ${error.port} ${why}; set ${variable} to another port`
}

/** curl's options for credentials. Typed by the modes there are, so that a new one cannot be missing here. */
const CURL_CREDENTIALS: Record<Config['auth'], string> = {
  none: '',
  token: " -H 'Authorization: Bearer TOKEN'",
  jwt: " -H 'Authorization: Bearer TOKEN'",
  broker: ' -u USER:PASSWORD',
}

function logAddresses({ url, adminUrl, embeddedUrl, isReachable }: App): void {
  if (embeddedUrl !== undefined) logger.info(`embedded broker, without persistence or access control: ${embeddedUrl}`)
  const credentials = CURL_CREDENTIALS[config.auth]
  logger.info(`publish:   curl${credentials} -d 21.5 '${url}/publish?topic=home/temp'`)
  logger.info(`subscribe: curl${credentials} -N '${url}/subscribe?topic=home/%23'`)
  logger.info(`metrics:   ${adminUrl}/metrics`)
  logger.info(`docs:      ${url}/docs`)
  if (!isReachable()) {
    logger.warn('started without a connection to the broker; publishes and subscriptions get 503 until there is one')
  }
}

try {
  const starting = startApp({ config, readFile, logger, version })
  // Before the start has finished, too: without a handler, process 1 of a container ignores these signals.
  onSignals(process, ['SIGTERM', 'SIGINT'], {
    close: async () => (await starting).close(),
    timeoutMs: config.shutdownMs,
    logger,
    exit: (code) => process.exit(code),
  })
  process.on('SIGHUP', async () => (await starting).reload())
  logAddresses(await starting)
} catch (error) {
  logger.fatal(explain(error as Error))
  process.exit(1)
}
