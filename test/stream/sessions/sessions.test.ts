import { PassThrough } from 'node:stream'
import { expect, onTestFinished, test } from 'vitest'
import { MemoryAccount } from '../../../src/memory/account.ts'
import { ndjson } from '../../../src/stream/formats/ndjson.ts'
import type { SessionEvents, SessionMessage, SessionRequest } from '../../../src/stream/sessions/session-stream.ts'
import { Sessions } from '../../../src/stream/sessions/sessions.ts'

const REQUEST: SessionRequest<SessionMessage> = {
  id: 'id',
  name: 'name',
  filters: ['a'],
  retained: false,
  ack: 'auto',
  share: new MemoryAccount({ totalBytes: 1e8 }).shareOf('a'),
  encoder: {
    name: 'test',
    format: ndjson,
    messageData: ({ payload }) => JSON.stringify(`${payload}`),
    withExpiry: (event) => event,
  },
}

/** Sessions, and how often each was opened and closed at the broker. */
function createSessions() {
  const calls: string[] = []
  let events: SessionEvents<SessionMessage> | undefined
  const sessions = new Sessions<SessionMessage>({
    epoch: 'e',
    log: { bytes: 1e6, messages: 100 },
    window: { bytes: 1e6, messages: 100 },
    sizeOf: ({ payload }) => payload.length,
    lingerMs: 60_000,
    heartbeatMs: 60_000,
    stallMs: 60_000,
    viewsElsewhere: async () => [],
    counters: {
      received() {},
      redelivered() {},
      opened() {},
      wrote() {},
      gap() {},
      resumed() {},
      closed() {},
    },
    connect: (_session, handlers) => {
      events = handlers
      return {
        state: 'connected',
        open: async () => (calls.push('open'), { present: true, expiryS: undefined }),
        done() {},
        abandon() {},
        hold: () => false,
        resume() {},
        renew: async () => {},
        close: async () => void calls.push('close'),
        end: async () => true,
      }
    },
  })
  onTestFinished(() => sessions.close())
  return { sessions, calls, deliver: (payload: string) => events!.message(messageOf(payload)) }
}

const messageOf = (payload: string): SessionMessage => ({ topic: 'a', payload: Buffer.from(payload), qos: 1 })

test('a reader that leaves before its stream starts ends a new session', async () => {
  const { sessions, calls } = createSessions()
  const opened = await sessions.open(REQUEST, undefined)
  opened!.release()
  expect(calls).toEqual(['open', 'close'])
  expect(sessions.count).toBe(0)
})

test('of two requests of one reader, one that leaves before it starts does not end the session', async () => {
  const { sessions, calls, deliver } = createSessions()
  // Its last event is of another bridge, where the session was open before.
  const [leaving, staying] = await Promise.all([sessions.open(REQUEST, 'f-1'), sessions.open(REQUEST, 'f-1')])
  leaving!.release()
  const response = new PassThrough()
  staying!.start(response)
  deliver('here')
  await new Promise(setImmediate)
  const pieces: Buffer[] = []
  // Node 26 gives one piece of several at a time.
  for (let piece: Buffer | null; (piece = response.read()) !== null;) pieces.push(piece)
  expect(String(Buffer.concat(pieces))).toContain('here')
  expect(calls).toEqual(['open', 'open'])
  expect(sessions.list).toMatchObject([{ connected: true }])
})
