import { isUtf8 } from 'node:buffer'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import type { Caller } from '../../auth/caller.ts'
import { CausewayError } from '../../errors.ts'
import { toJson } from '../../json-text.ts'
import type { Held } from '../../memory/account.ts'
import type { PublishResult } from '../../mqtt/publish/in-flight.ts'
import { fromJson, type JsonMessage, type Message } from '../../mqtt/message.ts'
import { refuseIdempotencyKey } from '../message/idempotency.ts'
import { inOrder } from '../message/in-order.ts'
import { type Line, lines } from '../message/lines.ts'
import { elementsOf, payloadSource } from '../message/payload-source.ts'
import { asProblem, problemDocument } from '../message/problem.ts'
import { problems } from '../message/problem-responses.ts'
import { requirePayloadSize } from '../message/read-message.ts'
import { MessageSchema, ndjsonOf } from '../message/schemas.ts'
import { releaseWithAnswer } from '../message/send-pieces.ts'
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
  /** Most bytes of a payload. */
  payloadMax: number
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
/** Held for an open NDJSON batch: the chunk that is being read, and the results that are not taken. */
const OPEN_BATCH_BYTES = 65_536
/** A message in JSON is held as its text, as what `JSON.parse` makes of it, and as the message that is to be sent. */
const COPIES = 3
/** The same for a short one. */
const MESSAGE_BYTES = 512
/** How many bytes of finished messages are given back together. */
const GIVE_BACK_BYTES = 65_536
const BYTE_ORDER_MARK = 0xfeff
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

/** A body that is a JSON array. */
interface JsonBatch {
  text: string
  values: unknown
}

/** How many messages of an NDJSON batch were read and published so far. */
interface Progress {
  read: number
  published: number
}

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
  items: { type: 'object', additionalProperties: true, title: 'BatchResult' },
  examples: [examples],
})

export async function batchRoutes(
  app: FastifyInstance,
  { publish, check, batchMax, lineMax, payloadMax, idleMs }: BatchRoutes,
): Promise<void> {
  // Do not refuse `__proto__`, as read-message.ts explains.
  const parseJson = app.getDefaultJsonParser('ignore', 'ignore')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    'application/json',
    wholeBody(app, (request, body, done) => {
      if (!isUtf8(body)) return done(new CausewayError('invalid-request', 'The body is not valid UTF-8'))
      const text = body.toString()
      void parseJson(request, text, (error, values) => done(error, { text, values } satisfies JsonBatch))
    }),
  )
  app.addContentTypeParser([NDJSON_TYPE, 'application/ndjson'], unreadBody())

  app.addHook('onRequest', (request, _reply, done) => done(refuseIdempotencyKey(request)))

  async function publishOne(caller: Caller, read: () => Message): Promise<Result> {
    try {
      const message = read()
      return { status: message.qos === 0 ? 202 : 200, ...(await publish(caller, message)) }
    } catch (error) {
      const problem = asProblem(error)
      if (problem.kind.code === 'internal') {
        app.log.error({ err: error }, 'a message of a batch failed with an unexpected error')
      }
      return { problem: problemDocument(problem) }
    }
  }

  /** @param at where the message begins in the text */
  function readMessage(value: unknown, text: string, at?: number): Message {
    // Before validation, which adds members that have a default.
    const source = payloadSource(text, value, at)
    check(value)
    const message = fromJson(value as JsonMessage, source)
    requirePayloadSize(message, payloadMax)
    return message
  }

  function resultLine(index: number, line: number, result: Result): string {
    try {
      return resultText({ index, line, ...result })
    } catch (error) {
      // A text can become too long for a string. One result must not end the answer.
      return resultText({ index, line, problem: problemDocument(asProblem(error)) })
    }
  }

  function readLine({ content }: NumberedLine): Message {
    if ('tooLong' in content) {
      throw new CausewayError(
        'payload-too-large',
        `The line is longer than the ${lineMax} bytes of the largest message`,
      )
    }
    if (!isUtf8(content.text)) throw new CausewayError('invalid-request', 'The line is not valid UTF-8')
    const line = content.text.toString()
    const text = line.charCodeAt(0) === BYTE_ORDER_MARK ? line.slice(1) : line
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch (cause) {
      throw new CausewayError('invalid-request', 'The line is not valid JSON', { cause })
    }
    return readMessage(value, text)
  }

  /** Publishes all messages of an array and returns their results, in order. */
  async function publishAll(caller: Caller, { text, values }: JsonBatch): Promise<Result[]> {
    if (!Array.isArray(values)) {
      throw new CausewayError('invalid-request', 'The body must be an array of messages, or NDJSON')
    }
    if (values.length > batchMax) {
      throw new CausewayError(
        'payload-too-large',
        `The batch has ${values.length} messages; CAUSEWAY_BATCH_MAX allows ${batchMax}. NDJSON has no such limit`,
      )
    }
    const bytes = heldBytes(text.length) + MESSAGE_BYTES * values.length
    if (!caller.share.take('bodies', bytes)) throw noRoomForBody()
    try {
      const starts = elementsOf(text)
      return await Promise.all(
        values.map(async (value, index) => ({
          index,
          ...(await publishOne(caller, () => readMessage(value, text, starts[index]))),
        })),
      )
    } finally {
      caller.share.give('bodies', bytes)
    }
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

  async function* numberedLines(body: UnendingBody, progress: Progress, held: Held): AsyncGenerator<NumberedLine[]> {
    let line = 0
    for await (const read of lines(body, lineMax, held, () => body.stop(noRoomForBody()))) {
      // Reading was stopped within a line, so the last one is incomplete.
      if (body.reason !== undefined) return
      const first = progress.read
      let bytesOfAll = 0
      const messages = read.flatMap((content) => {
        line += 1
        const bytes = 'text' in content ? content.text.length : 0
        if ('text' in content && bytes === 0) return []
        bytesOfAll += heldBytes(bytes)
        return [{ index: progress.read++, line, bytes, content }]
      })
      if (held.grow(bytesOfAll)) yield messages
      else {
        progress.read = first
        return body.stop(noRoomForBody())
      }
    }
  }

  /**
   * A line with the result of each message, then one with their number, so that a sender sees when a proxy has cut the
   * body short. Where the body was not read to its end, the line before says why.
   * @param held released at the end
   * @param disconnect called when the client does not read the results
   */
  async function* resultLines(
    caller: Caller,
    body: UnendingBody,
    held: Held,
    disconnect: () => void,
  ): AsyncGenerator<string> {
    let stalled: NodeJS.Timeout | undefined
    const progress: Progress = { read: 0, published: 0 }
    let finished = 0
    let finishedBytes = 0
    openBodies.add(body)
    try {
      const work = async (item: NumberedLine): Promise<string> => {
        const { index, line } = item
        const result = await publishOne(caller, () => readLine(item))
        if ('status' in result) progress.published += 1
        finished += 1
        finishedBytes += heldBytes(item.bytes)
        // Not for each message, as giving bytes back costs more than adding them up.
        if (finishedBytes >= GIVE_BACK_BYTES || finished === progress.read) {
          held.shrink(finishedBytes)
          finishedBytes = 0
        }
        return resultLine(index, line, result)
      }
      for await (const chunk of inOrder(numberedLines(body, progress, held), work, IN_FLIGHT_LIMITS)) {
        // `yield` returns when the client has read enough to take the next chunk.
        stalled = setTimeout(disconnect, idleMs)
        yield chunk
        clearTimeout(stalled)
      }
      if (body.reason !== undefined) yield resultText({ problem: problemDocument(body.reason) })
      yield resultText({ end: true, ...progress })
    } finally {
      clearTimeout(stalled)
      openBodies.delete(body)
      held.release()
    }
  }

  app.post('/publish/batch', {
    config: { streamsBody: true },
    schema: {
      operationId: 'publishBatch',
      summary: 'Publish many messages',
      description:
        'A JSON array of messages gets an array of results, in order. NDJSON may have any length and is read as ' +
        'fast as the broker accepts the messages. It gets one line for each message, in order, so read the answer ' +
        'while you send. A message that fails does not affect the others. The last line is ' +
        '`{"end":true,"read":N,"published":M}`: if N is less than what you sent, a proxy has cut the body short; ' +
        'without that line, the answer. If the bridge stops reading before the end of the body, because nothing ' +
        'arrives any more or it shuts down, the line before has a `problem` and no `index`. No `Idempotency-Key`.',
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
              ...ndjsonOf({ title: 'Message' }, 'A message on each line'),
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
                ...ndjsonOf(
                  { anyOf: [{ title: 'BatchResult' }, { title: 'BatchEnd' }] },
                  'A result on each line, in order, and one line for the end',
                ),
                examples: [
                  [...resultExamples, { end: true, read: 2, published: 1 }]
                    .map((line) => `${JSON.stringify(line)}\n`)
                    .join(''),
                ],
              },
            },
          },
        },
        207: {
          description: 'Some messages were not published',
          content: { 'application/json': { schema: arrayOf('One result for each message', resultExamples) } },
        },
        ...problems('invalid-request', 'payload-too-large', 'unsupported-media-type', 'overloaded'),
      },
    },
    // Do not validate the array as a whole: each message is validated on its own, so that a bad one fails alone.
    validatorCompiler: () => () => true,
    handler: async (request, reply) => {
      const { body } = request
      if (body instanceof Readable) {
        const held = request.share.hold('bodies')
        if (!held.grow(OPEN_BATCH_BYTES)) throw noRoomForBody()
        const unending = new UnendingBody(body, idleMs)
        // The generator below does not begin if the client has left already.
        releaseWithAnswer(held, reply)
        reply.raw.once('finish', () => {
          // Node would read the rest of the body before it closes the connection, and the body may never end.
          if (unending.reason !== undefined && request.raw.httpVersionMajor === 1) {
            setTimeout(() => request.raw.destroy(), CLOSE_DELAY_MS)
          }
        })
        return reply.type(`${NDJSON_TYPE}; charset=utf-8`).send(
          Readable.from(
            resultLines(request, unending, held, () => reply.raw.destroy()),
            { highWaterMark: 1 },
          ),
        )
      }
      if (body === undefined) throw new CausewayError('invalid-request', 'The body is empty where JSON is expected')
      const results = await publishAll(request, body as JsonBatch)
      const failed = results.some((result) => 'problem' in result)
      return reply
        .code(failed ? 207 : 200)
        .type('application/json; charset=utf-8')
        .serializer(toJson)
        .send(results)
    },
  })
}

/** @param bytes of a text in JSON */
function heldBytes(bytes: number): number {
  return COPIES * bytes + MESSAGE_BYTES
}

function resultText(result: object): string {
  return `${toJson(result)}\n`
}
