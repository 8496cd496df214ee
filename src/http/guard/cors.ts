import type { FastifyInstance } from 'fastify'

/** How long a browser may cache the answer to a preflight request. */
const PREFLIGHT_MAX_AGE_S = 600
/** Headers that scripts may read, besides the few that CORS always allows. */
const EXPOSED_HEADERS = [
  'Idempotency-Replayed',
  'MQTT-Correlation-Data',
  'MQTT-Message-Expiry-Interval',
  'MQTT-Payload-Format-Indicator',
  'MQTT-QoS',
  'MQTT-Response-Topic',
  'MQTT-User-Properties',
  'RateLimit',
  'RateLimit-Policy',
  'Retry-After',
  'WWW-Authenticate',
  'X-Request-Id',
]

/**
 * Lets pages of these origins call with cookies and passwords, and read the answers. No origin: no CORS headers at all.
 */
export async function allowOrigins(app: FastifyInstance, origins: ReadonlySet<string>): Promise<void> {
  if (origins.size === 0) return
  const { default: cors } = await import('@fastify/cors')
  await app.register(cors, {
    origin: [...origins],
    credentials: true,
    methods: ['GET', 'POST', 'DELETE'],
    exposedHeaders: EXPOSED_HEADERS,
    maxAge: PREFLIGHT_MAX_AGE_S,
    strictPreflight: false,
  })
}
