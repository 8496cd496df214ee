import type { Logger } from 'pino'
import { type App, startApp } from './app.ts'
import type { Config } from './config/config.ts'
import { openLogger } from './logger.ts'
import { logNotices, type Notice } from './notices.ts'
import { onSignals } from './shutdown.ts'
import type { Tracing } from './tracing/tracing.ts'
import type { Worker } from './workers/worker.ts'

export interface ServeOptions {
  config: Config
  readFile(path: string): string
  version: string
  /** About the configuration, for the log. */
  notices: readonly Notice[]
  /** Where this process is one of several that share the port. */
  worker: Worker | undefined
}

/** curl's options for credentials. Typed by the modes there are, so that a new one cannot be missing here. */
const CURL_CREDENTIALS: Record<Config['auth'], string> = {
  none: '',
  token: " -H 'Authorization: Bearer TOKEN'",
  jwt: " -H 'Authorization: Bearer TOKEN'",
  broker: ' -u USER:PASSWORD',
}

/** Runs the bridge in this process until a signal ends it. Exits with 1 if it cannot start. */
export async function serve({ config, readFile, version, notices, worker }: ServeOptions): Promise<void> {
  const base = worker === undefined ? null : { worker: worker.number }
  const { logger, flush } = await openLogger(config, base)

  function exit(code: number): never {
    flush()
    process.exit(code)
  }

  function logAddresses({ url, adminUrl, embeddedUrl, isReachable }: App): void {
    if (embeddedUrl !== undefined) logger.info(`embedded broker, without persistence or access control: ${embeddedUrl}`)
    const credentials = CURL_CREDENTIALS[config.auth]
    logger.info(`publish:   curl${credentials} -d 21.5 '${url}/publish?topic=home/temp'`)
    logger.info(`subscribe: curl${credentials} -N '${url}/subscribe?topic=home/%23'`)
    logger.info(`metrics:   ${adminUrl}/metrics`)
    logger.info(`docs:      ${url}/docs`)
    if (config.console) logger.info(`page:      ${url}/`)
    if (!isReachable()) {
      logger.warn('started without a connection to the broker; publishes and subscriptions get 503 until there is one')
    }
  }

  // The parent of workers has said this.
  if (worker === undefined) logNotices(logger, notices)

  try {
    const startingTracing = tracingOf(process.env, version, logger)
    const starting = startingTracing.then((tracing) => startApp({ config, readFile, logger, version, tracing, worker }))
    // Before the start has finished, too: without a handler, process 1 of a container ignores these signals.
    // Ctrl-C reaches every process of a terminal. Workers leave it to their parent, which sends SIGTERM.
    if (worker !== undefined) process.on('SIGINT', () => {})
    onSignals(process, worker === undefined ? ['SIGTERM', 'SIGINT'] : ['SIGTERM'], {
      drain: () => void starting.then(({ drain }) => drain()).catch(() => {}),
      drainMs: config.drainMs,
      close: async () => {
        await (await starting).close()
        await (await startingTracing)?.close()
      },
      timeoutMs: config.shutdownMs,
      logger,
      exit,
    })
    process.on('SIGHUP', () => void starting.then(({ reload }) => reload()).catch(() => {}))
    const app = await starting
    if (worker === undefined || worker.number === 1) logAddresses(app)
  } catch (error) {
    logger.fatal(explain(error as Error, config))
    exit(1)
  }
}

/** OpenTelemetry, where its variables ask for traces and its packages are installed. */
async function tracingOf(env: NodeJS.ProcessEnv, version: string, logger: Logger): Promise<Tracing | undefined> {
  if (!wantsTraces(env)) return undefined
  try {
    const { startTracing } = await import('./tracing/open-telemetry.ts')
    const tracing = startTracing(version)
    logger.info('traces are recorded with OpenTelemetry, as the OTEL_* variables say')
    return tracing
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error
    logger.warn(
      'OTEL_* asks for traces, which need two packages that are not installed; none are recorded. To install them: ' +
        'npm install @opentelemetry/api @opentelemetry/sdk-node',
    )
    return undefined
  }
}

/** One of these says where traces go. Others, such as OTEL_SERVICE_NAME, may be set for every process of a machine. */
function wantsTraces(env: NodeJS.ProcessEnv): boolean {
  if (env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true' || env['OTEL_TRACES_EXPORTER'] === 'none') return false
  const names = ['OTEL_TRACES_EXPORTER', 'OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']
  return names.some((name) => Boolean(env[name]))
}

function explain(error: NodeJS.ErrnoException & { port?: number }, { httpPort, adminPort }: Config): string {
  if (error.code !== 'EADDRINUSE' && error.code !== 'EACCES') return `cannot start: ${error.message}`
  const variable =
    error.port === httpPort
      ? 'CAUSEWAY_HTTP_PORT'
      : error.port === adminPort
        ? 'CAUSEWAY_ADMIN_PORT'
        : 'CAUSEWAY_EMBEDDED_PORT'
  const why = error.code === 'EACCES' ? 'is not allowed for this user' : 'is in use by another process'
  return `cannot start: port ${error.port} ${why}; set ${variable} to another port`
}
