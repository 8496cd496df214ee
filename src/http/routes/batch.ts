import { isUtf8 } from 'node:buffer'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import type { Identity } from '../../auth/identity.ts'
import { CausewayError } from '../../errors.ts'
import type { PublishResult } from '../../mqtt/publish/in-flight.ts'
import { fromJson, type JsonMessage, type Message } from '../../mqtt/message.ts'
import { inOrder } from '../message/in-order.ts'
import { type Line, lines } from '../message/lines.ts'
import { asProblem, problemDocument } from '../message/problem.ts'
import { problems } from '../message/problem-responses.ts'
import { MessageSchema } from '../message/schemas.ts'
import { UnendingBody } from '../message/unending-body.ts'

export interface BatchRoutes {
  /** Publishes, or waits until there is room to. */
  publish(identity: Identity, message: Message): Promise<PublishResult>
  /** Throws every fault of what should be a message. */
  check(value: unknown): void
  /** Most messages of an array. */
  batchMax: number
  /** Most bytes of an NDJSON line. */
  lineMax: number
  /** How long an NDJSON body may bring nothing, and its sender read nothing of the answer. */
  idleMs: number
}

/**
 * Messages of one NDJSON batch on their way at once: enough to fill the connections, few enough to leave room for
 * others; and bytes of their lines, which would otherwise fill the memory before they are as many.
 */
const UNDER_WAY = { items: 256, bytes: 1_048_576 }
/** For the end of an answer to be read before its connection goes. */
const FAREWELL_MS = 1000
const NDJSON_TYPE = 'application/x-ndjson'

interface NumberedLine {
  index: number
  line: number
  bytes: number
  content: Line
}

type Result = { status: number } | { problem: object }

const resultExamples = [
  { index: 0, status: 200, topic: 'home/temp', qos: 1, reasonCode: 0, reason: 'Success', matchedSubscribers: true },
  {
    index: 1,
    problem: problemDocument(
      new CausewayError('not-authorized', 'The broker refused the message for home/door: Not authorized', {
        mqtt: { reasonCode: 0x87, reason: 'Not authorized' },
      }),
    ),
  },
]
const arrayOf = (description: string, examples: object[]) => ({
  description,
  type: 'array',
  items: { type: 'object', additionalProperties: true },
  examples: [examples],
})

export async function batchRoutes(
  app: FastifyInstance,
  { publish, check, batchMax, lineMax, idleMs }: BatchRoutes,
): Promise<void> {
  // As for single messages.
  const parseJson = app.getDefaultJsonParser('ignore', 'ignore')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    if (!isUtf8(body)) return done(new CausewayError('invalid-request', 'The body is not valid UTF-8'))
    return parseJson(request, body.toString(), done)
  })
  app.addContentTypeParser([NDJSON_TYPE, 'application/ndjson'], (_request, payload, done) => done(null, payload))

  async function publishOne(identity: Identity, parse: () => unknown): Promise<Result> {
    try {
      const value = parse()
      check(value)
      const message = fromJson(value as JsonMessage)
      return { status: message.qos === 0 ? 202 : 200, ...(await publish(identity, message)) }
    } catch (error) {
      const problem = asProblem(error)
      if (problem.kind.code === 'internal') {
        app.log.error({ err: error }, 'a message of a batch failed in a way that is not foreseen')
      }
      return { problem: problemDocument(problem) }
    }
  }

  /** As Fastify parses bodies. */
  function parseLine(text: Buffer): unknown {
    if (!isUtf8(text)) throw new CausewayError('invalid-request', 'The line is not valid UTF-8')
    let result: unknown
    void parseJson({} as never, text.toString(), (error, value) => {
      if (error) throw new CausewayError('invalid-request', 'The line is not valid JSON', { cause: error })
      result = value
    })
    return result
  }

  const open = new Set<UnendingBody>()
  app.addHook('preClose', async () => {
    for (const body of open) {
      body.stop(
        new CausewayError('shutting-down', 'This instance is shutting down; send the rest to another one', {
          outcome: 'not-sent',
        }),
      )
    }
  })

  async function* numbered(body: UnendingBody): AsyncGenerator<NumberedLine[]> {
    let line = 0
    let index = 0
    for await (const read of lines(body, lineMax)) {
      // The line it ended within is not all there.
      if (body.reason !== undefined) return
      yield read.flatMap((content) => {
        line += 1
        const bytes = 'text' in content ? content.text.length : 0
        return 'text' in content && bytes === 0 ? [] : [{ index: index++, line, bytes, content }]
      })
    }
  }

  /** A line for each message and, where the body was not read to its end, a last one that says why. */
  async function* answers(identity: Identity, body: UnendingBody, cutOff: () => void): AsyncGenerator<string> {
    let unread: NodeJS.Timeout | undefined
    open.add(body)
    try {
      const work = async (item: NumberedLine) =>
        `${JSON.stringify({ index: item.index, line: item.line, ...(await publishOne(identity, () => parseNumbered(item))) })}\n`
      for await (const results of inOrder(numbered(body), work, UNDER_WAY)) {
        // It goes on once these are taken.
        unread = setTimeout(cutOff, idleMs)
        yield results
        clearTimeout(unread)
      }
      if (body.reason !== undefined) yield `${JSON.stringify({ problem: problemDocument(body.reason) })}\n`
    } finally {
      clearTimeout(unread)
      open.delete(body)
    }
  }

  function parseNumbered({ content }: NumberedLine): unknown {
    if ('text' in content) return parseLine(content.text)
    throw new CausewayError('payload-too-large', `The line is longer than CAUSEWAY_BODY_LIMIT_BYTES (${lineMax})`)
  }

  app.post('/publish/batch', {
    config: { streamsBody: true },
    schema: {
      summary: 'Publish many messages',
      description:
        'An array of messages gets an array of results, in order. NDJSON of any length, read no faster than the broker takes it, gets a line for each message as soon as it and those before it have one; read the answer while you send. A message that fails does so alone. Where the body is not read to its end, because nothing comes any more or the bridge shuts down, the last line has a `problem` and no `index`.',
      tags: ['publish'],
      body: {
        content: {
          'application/json': {
            schema: {
              type: 'array',
              maxItems: batchMax,
              items: { ...MessageSchema },
              examples: [
                [
                  { topic: 'home/temp', payload: '21.5' },
                  { topic: 'home/door', payload: 'open' },
                ],
              ],
            },
          },
          [NDJSON_TYPE]: {
            schema: {
              type: 'string',
              examples: ['{"topic":"home/temp","payload":"21.5"}\n{"topic":"home/door","payload":"open"}\n'],
            },
          },
        },
      },
      response: {
        200: {
          description: 'A result for each message',
          content: {
            'application/json': { schema: arrayOf('All were published', resultExamples.slice(0, 1)) },
            [NDJSON_TYPE]: {
              schema: {
                type: 'string',
                examples: [`${resultExamples.map((result) => JSON.stringify(result)).join('\n')}\n`],
              },
            },
          },
        },
        207: {
          description: 'Some were not published',
          content: { 'application/json': { schema: arrayOf('A result for each message', resultExamples) } },
        },
        ...problems('invalid-request', 'payload-too-large', 'unsupported-media-type'),
      },
    },
    // Each message is validated on its own, so that one that is bad fails alone.
    validatorCompiler: () => () => true,
    handler: async (request, reply) => {
      const { body, identity } = request
      if (body instanceof Readable) {
        const unending = new UnendingBody(body, idleMs)
        reply.raw.once('finish', () => {
          // Node would read what is left of the body to its end, and it may have none.
          if (unending.reason !== undefined && request.raw.httpVersionMajor === 1) {
            setTimeout(() => request.raw.destroy(), FAREWELL_MS)
          }
        })
        return reply.type(`${NDJSON_TYPE}; charset=utf-8`).send(
          Readable.from(
            answers(identity, unending, () => reply.raw.destroy()),
            { highWaterMark: 1 },
          ),
        )
      }
      if (!Array.isArray(body)) {
        throw new CausewayError('invalid-request', 'The body must be an array of messages, or NDJSON')
      }
      if (body.length > batchMax) {
        throw new CausewayError(
          'payload-too-large',
          `The batch has ${body.length} messages; CAUSEWAY_BATCH_MAX allows ${batchMax}. NDJSON has no limit`,
        )
      }
      const results = await Promise.all(
        body.map(async (value, index) => ({ index, ...(await publishOne(identity, () => value)) })),
      )
      const failed = results.some((result) => 'problem' in result)
      return reply
        .code(failed ? 207 : 200)
        .type('application/json; charset=utf-8')
        .serializer(JSON.stringify)
        .send(results)
    },
  })
}
