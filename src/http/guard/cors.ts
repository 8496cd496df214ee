import cors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'

/** How long a browser remembers what it may send. */
const PREFLIGHT_S = 600
/** What scripts may read beside the few headers they always may. */
const EXPOSED = [
  'Idempotency-Replayed',
  'MQTT-Correlation-Data',
  'MQTT-Message-Expiry-Interval',
  'MQTT-Payload-Format-Indicator',
  'MQTT-QoS',
  'MQTT-Response-Topic',
  'MQTT-User-Properties',
  'Retry-After',
  'WWW-Authenticate',
]

/** Lets scripts of these origins call and read the answers, with cookies and passwords. Without any, of none. */
export async function allowOrigins(app: FastifyInstance, origins: ReadonlySet<string>): Promise<void> {
  if (origins.size === 0) return
  await app.register(cors, {
    origin: [...origins],
    credentials: true,
    methods: ['GET', 'POST', 'DELETE'],
    exposedHeaders: EXPOSED,
    maxAge: PREFLIGHT_S,
    strictPreflight: false,
  })
}
