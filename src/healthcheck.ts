import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'

/*
 * Exits with 0 if the bridge with these settings answers /livez, else with 1: the HEALTHCHECK of the image. It asks for
 * liveness only, because restarting the container does not help when the broker is away.
 */

const TIMEOUT_MS = 2500

const { env } = process
const adminPort = env['CAUSEWAY_ADMIN_PORT']
const listenOn = (adminPort && env['CAUSEWAY_ADMIN_HOST']) || env['CAUSEWAY_HTTP_HOST'] || '127.0.0.1'
const host = { '0.0.0.0': '127.0.0.1', '::': '::1', localhost: '127.0.0.1' }[listenOn] ?? listenOn
const port = adminPort || env['CAUSEWAY_HTTP_PORT'] || '8080'
const isSecure = !adminPort && Boolean(env['CAUSEWAY_HTTP_CERT_FILE'])

// The certificate is for the public name, and here it is only asked whether the process answers.
const ask = isSecure ? requestHttps({ ...target(), rejectUnauthorized: false }) : requestHttp(target())
ask.on('response', ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1))
ask.on('error', () => process.exit(1))
ask.end()
setTimeout(() => process.exit(1), TIMEOUT_MS)

function target() {
  return { host, port, path: '/livez', agent: false }
}
