import { isUtf8 } from 'node:buffer'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import type { Caller } from '../../auth/caller.ts'
import { CausewayError } from '../../errors.ts'
import { escapeLineSeparators } from '../../json-text.ts'
import type { Held } from '../../memory/account.ts'
import type { PublishResult } from '../../mqtt/publish/in-flight.ts'
import { fromJson, type JsonMessage, type Message } from '../../mqtt/message.ts'
import { inOrder } from '../message/in-order.ts'
import { type Line, lines } from '../message/lines.ts'
import { asProblem, problemDocument } from '../message/problem.ts'
import { problems } from '../message/problem-responses.ts'
import { MessageSchema } from '../message/schemas.ts'
import { UnendingBody } from '../message/unending-body.ts'
import { noRoomForBody, unreadBody, wholeBody } from '../server/read-body.ts'

export interface BatchRoutes {
  /** Publishes, and waits before that while too many publishes are in flight. */
  publish(caller: Caller, message: Message): Promise<PublishResult>
  /** @throws CausewayError with all faults where the value is no valid message */
  check(value: unknown): void
  /** Most messages in a JSON array. */
  batchMax: number
  /** Most bytes in an NDJSON line. */
  lineMax: number
  /**
   * An NDJSON batch ends when its body brings nothing for this long, or when its sender reads no result for this long.
   */
  idleMs: number
}

/**
 * Most messages of one NDJSON batch that are published at the same time, and most bytes of their lines. 256 keep the
 * connections to the broker busy and leave room for other callers. The limit in bytes is for large messages.
 */
const IN_FLIGHT_LIMITS = { items: 256, bytes: 1_048_576 }
/** Time for the client to read the end of an answer, before its connection is closed. */
const CLOSE_DELAY_MS = 1000
const NDJSON_TYPE = 'application/x-ndjson'

interface NumberedLine {
  /** Number of the message, from 0. Empty lines are no messages. */
  index: number
  /** Number of the line, from 1. */
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
  // Do not refuse `__proto__`, as read-message.ts explains.
  const parseJson = app.getDefaultJsonParser('ignore', 'ignore')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    'application/json',
    wholeBody(app, (request, body, done) => {
      if (!isUtf8(body)) return done(new CausewayError('invalid-request', 'The body is not valid UTF-8'))
      return void parseJson(request, body.toString(), done)
    }),
  )
  app.addContentTypeParser([NDJSON_TYPE, 'application/ndjson'], unreadBody())

  async function publishOne(caller: Caller, parse: () => unknown): Promise<Result> {
    try {
      const value = parse()
      check(value)
      const message = fromJson(value as JsonMessage)
      return { status: message.qos === 0 ? 202 : 200, ...(await publish(caller, message)) }
    } catch (error) {
      const problem = asProblem(error)
      if (problem.kind.code === 'internal') {
        app.log.error({ err: error }, 'a message of a batch failed with an unexpected error')
      }
      return { problem: problemDocument(problem) }
    }
  }

  /** Parses a line with Fastify's JSON parser, which answers by callback and before it returns. */
  function parseLine(text: Buffer): unknown {
    if (!isUtf8(text)) throw new CausewayError('invalid-request', 'The line is not valid UTF-8')
    let result: unknown
    void parseJson({} as never, text.toString(), (error, value) => {
      if (error) throw new CausewayError('invalid-request', 'The line is not valid JSON', { cause: error })
      result = value
    })
    return result
  }

  const openBodies = new Set<UnendingBody>()
  app.addHook('preClose', async () => {
    for (const body of openBodies) {
      body.stop(
        new CausewayError('shutting-down', 'This instance is shutting down; send the rest to another one', {
          outcome: 'not-sent',
        }),
      )
    }
  })

  /** @param held gets the bytes of every line, to be given back once it is worked on */
  async function* numberedLines(body: UnendingBody, held: Held): AsyncGenerator<NumberedLine[]> {
    let line = 0
    let index = 0
    for await (const read of lines(body, lineMax, held, () => body.stop(noRoomForBody()))) {
      // Reading was stopped within a line, so the last one is incomplete.
      if (body.reason !== undefined) return
      const bytesOfAll = read.reduce((sum, content) => sum + ('text' in content ? content.text.length : 0), 0)
      if (!held.grow(bytesOfAll)) return body.stop(noRoomForBody())
      yield read.flatMap((content) => {
        line += 1
        const bytes = 'text' in content ? content.text.length : 0
        return 'text' in content && bytes === 0 ? [] : [{ index: index++, line, bytes, content }]
      })
    }
  }

  /**
   * A line with the result of each message. Where the body was not read to its end, a last line says why.
   * @param disconnect called when the client does not read the results
   */
  async function* resultLines(caller: Caller, body: UnendingBody, disconnect: () => void): AsyncGenerator<string> {
    let stalled: NodeJS.Timeout | undefined
    const held = caller.share.hold('bodies')
    openBodies.add(body)
    try {
      const work = async (item: NumberedLine): Promise<string> => {
        const result = await publishOne(caller, () => parseNumbered(item))
        held.shrink(item.bytes)
        return resultLine({ index: item.index, line: item.line, ...result })
      }
      for await (const chunk of inOrder(numberedLines(body, held), work, IN_FLIGHT_LIMITS)) {
        // `yield` returns when the client has read enough to take the next chunk.
        stalled = setTimeout(disconnect, idleMs)
        yield chunk
        clearTimeout(stalled)
      }
      if (body.reason !== undefined) yield resultLine({ problem: problemDocument(body.reason) })
    } finally {
      clearTimeout(stalled)
      held.release()
      openBodies.delete(body)
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
        'A JSON array of messages gets an array of results, in order. NDJSON may have any length and is read as ' +
        'fast as the broker accepts the messages. It gets one line for each message, in order, so read the answer ' +
        'while you send. A message that fails does not affect the others. If the bridge stops reading before the ' +
        'end of the body, because nothing arrives any more or it shuts down, the last line has a `problem` and no ' +
        '`index`.',
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
          description: 'One result for each message',
          content: {
            'application/json': { schema: arrayOf('All messages were published', resultExamples.slice(0, 1)) },
            [NDJSON_TYPE]: {
              schema: {
                type: 'string',
                examples: [`${resultExamples.map((result) => JSON.stringify(result)).join('\n')}\n`],
              },
            },
          },
        },
        207: {
          description: 'Some messages were not published',
          content: { 'application/json': { schema: arrayOf('One result for each message', resultExamples) } },
        },
        ...problems('invalid-request', 'payload-too-large', 'unsupported-media-type'),
      },
    },
    // Do not validate the array as a whole: each message is validated on its own, so that a bad one fails alone.
    validatorCompiler: () => () => true,
    handler: async (request, reply) => {
      const { body } = request
      if (body instanceof Readable) {
        const unending = new UnendingBody(body, idleMs)
        reply.raw.once('finish', () => {
          // Node would read the rest of the body before it closes the connection, and the body may never end.
          if (unending.reason !== undefined && request.raw.httpVersionMajor === 1) {
            setTimeout(() => request.raw.destroy(), CLOSE_DELAY_MS)
          }
        })
        return reply.type(`${NDJSON_TYPE}; charset=utf-8`).send(
          Readable.from(
            resultLines(request, unending, () => reply.raw.destroy()),
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
          `The batch has ${body.length} messages; CAUSEWAY_BATCH_MAX allows ${batchMax}. NDJSON has no such limit`,
        )
      }
      const results = await Promise.all(
        body.map(async (value, index) => ({ index, ...(await publishOne(request, () => value)) })),
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

function resultLine(result: object): string {
  return `${escapeLineSeparators(JSON.stringify(result))}\n`
}
