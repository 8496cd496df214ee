import { once } from 'node:events'
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { expect, onTestFinished, test } from 'vitest'
import { type Bridge, startBridge } from '../../support/bridge.ts'

/** Starts an NDJSON batch and does not end its body. */
async function openBatch(
  { url }: Bridge,
  lines: string,
): Promise<{ post: ClientRequest; answers: () => Record<string, unknown>[]; ended: Promise<unknown> }> {
  const post = request(`${url}/publish/batch`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    agent: false,
  }).on('error', () => {})
  onTestFinished(() => void post.destroy())
  post.write(lines)
  const [response] = (await once(post, 'response')) as [IncomingMessage]
  let text = ''
  response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  return {
    post,
    answers: () =>
      text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ended: once(response, 'end'),
  }
}

test('an open batch does not keep the bridge from closing, and its answer says why it ended', async () => {
  const bridge = await startBridge({ SHUTDOWN_MS: 30_000 })
  const { answers, ended } = await openBatch(bridge, '{"topic":"a"}\n{"topic":"b"}\n{"topic":"c","pay')
  await expect.poll(() => answers().length).toBe(2)
  const closed = bridge.close()
  await ended
  expect(answers().map(({ status }) => status)).toEqual([200, 200, undefined, undefined])
  expect(answers().slice(2)).toEqual([
    { problem: expect.objectContaining({ code: 'shutting-down', retryable: true, outcome: 'not-sent' }) },
    { end: true, read: 2, published: 2 },
  ])
  await closed
})

test('a batch that brings nothing for too long is ended', async () => {
  const bridge = await startBridge({ STREAM_STALL_MS: 300 })
  const { post, answers, ended } = await openBatch(bridge, '{"topic":"a"}\n')
  await ended
  expect(answers().slice(-2)).toEqual([
    { problem: expect.objectContaining({ code: 'request-timeout', retryable: true }) },
    { end: true, read: 1, published: 1 },
  ])
  await once(post, 'close')
})
