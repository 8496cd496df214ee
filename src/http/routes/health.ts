import type { FastifyInstance, FastifyReply, onRequestHookHandler } from 'fastify'
import { CausewayError } from '../../errors.ts'
import { toJson } from '../../json-text.ts'
import type { Broker, ConnectionReport } from '../../mqtt/connection/broker.ts'
import { describeBroker } from '../../mqtt/connection/describe-broker.ts'
import { PROBLEM_TYPE, problemDocument } from '../message/problem.ts'
import { onlyProblems, problems } from '../message/problem-responses.ts'

export interface HealthRoutes {
  isReachable(): boolean
  /** Whether the process is asked to end. */
  isDraining(): boolean
  broker: Pick<Broker, 'addresses' | 'reports' | 'learnt'>
  /** How Redis is; undefined where none is configured. */
  redis: (() => object) | undefined
  /** Runs before `/readyz?verbose` is answered, and refuses those who may not see that; undefined where all may. */
  guardVerbose: onRequestHookHandler | undefined
}

const ok = (description: string, properties: object = {}) => ({
  description,
  type: 'object',
  properties: { status: { type: 'string' }, ...properties },
  examples: [{ status: 'ok' }],
})

const VERBOSE_PROPERTIES = {
  broker: {
    type: 'object',
    description:
      'With `verbose`: `addresses` as configured, and as found `address`, `protocol` and `limits` (what CONNACK said)',
    additionalProperties: true,
  },
  connections: {
    type: 'array',
    description:
      'With `verbose`: the bridge’s own connections, each with `role`, `clientId`, `state`, `address`, `protocol` ' +
      'and, if it is not connected, `reason`',
    items: { type: 'object', additionalProperties: true },
  },
  redis: {
    type: 'object',
    description:
      'With `verbose`, and only with CAUSEWAY_REDIS_URL: `address`, `state` (`connected` or `away`) and, if it is ' +
      'away, `reason`. The bridge is ready all the same',
    additionalProperties: true,
  },
  others: {
    type: 'object',
    description: 'With `verbose`: how many connections of sessions and of callers there are, by role and state',
    additionalProperties: true,
  },
}

/** Connections that are not the reason why the bridge is not ready. */
const NOT_NEEDED: readonly ConnectionReport['role'][] = ['session', 'presence', 'request', 'cluster']

/**
 * `/livez` answers as long as the event loop runs. `/readyz` answers 200 only where requests can succeed, and turns to
 * 503 within a second of losing the broker.
 */
export async function healthRoutes(
  app: FastifyInstance,
  { isReachable, isDraining, broker, redis, guardVerbose }: HealthRoutes,
): Promise<void> {
  function whyNotReady(): CausewayError | undefined {
    if (isDraining()) {
      return new CausewayError('shutting-down', 'This instance is shutting down; ask another one', { retryAfter: 1 })
    }
    if (isReachable()) return undefined
    const away = broker.reports.find(
      ({ role, state, isCallers }) => state === 'disconnected' && !isCallers && !NOT_NEEDED.includes(role),
    )
    const where = away === undefined ? '' : ` ${away.address} over MQTT ${away.protocol}: ${away.reason}`
    return new CausewayError('broker-unavailable', `The bridge is not connected to its broker${where}`, {
      retryAfter: 1,
    })
  }

  app.get(
    '/livez',
    {
      schema: {
        operationId: 'livez',
        summary: 'The process is alive',
        description: 'Restart the process where this fails. Needs no credentials.',
        tags: ['operation'],
        security: [],
        response: { 200: ok('The process is alive'), ...onlyProblems('forbidden') },
      },
    },
    async () => ({ status: 'ok' }),
  )

  app.get<{ Querystring: { verbose?: string } }>(
    '/readyz',
    {
      onRequest: (request, reply, done) => {
        if (guardVerbose === undefined || !isVerbose(request.query)) done()
        else guardVerbose.call(app, request, reply, done)
      },
      schema: {
        operationId: 'readyz',
        summary: 'The broker is reachable and the process is not shutting down',
        description:
          'Send no requests to this instance while this fails; `detail` says why. Needs no credentials, except with ' +
          '`verbose` on the public port.',
        tags: ['operation'],
        security: [],
        querystring: {
          type: 'object',
          properties: {
            verbose: {
              type: 'string',
              description: 'Describe the broker and the connections to it. Needs credentials on the public port',
            },
          },
        },
        response: {
          200: ok('Requests can be sent here', VERBOSE_PROPERTIES),
          ...problems('broker-unavailable', 'shutting-down'),
        },
      },
    },
    async (request, reply) => {
      const problem = whyNotReady()
      if (!isVerbose(request.query)) {
        if (problem !== undefined) throw problem
        return { status: 'ok' }
      }
      const report = { ...describeBroker(broker), ...(redis && { redis: redis() }) }
      return problem === undefined ? { status: 'ok', ...report } : sendWithReport(problem, report, reply)
    },
  )
}

function isVerbose(query: { verbose?: string }): boolean {
  return query.verbose !== undefined && query.verbose !== 'false'
}

function sendWithReport(problem: CausewayError, report: object, reply: FastifyReply): FastifyReply {
  reply.header('retry-after', problem.details.retryAfter)
  const document = { ...problemDocument(problem), ...report }
  return reply.code(problem.kind.status).type(PROBLEM_TYPE).serializer(toJson).send(document)
}
