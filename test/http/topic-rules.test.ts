import { expect, test } from 'vitest'
import { startBridge } from '../support/bridge.ts'
import { get, publish, publishRaw, send } from '../support/http.ts'
import { openStream } from '../support/stream.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

const FORBIDDEN = { status: 403, code: 'forbidden' }

async function start() {
  const caller = makeToken('caller', ['out/+'], ['in/+'])
  const anybody = makeToken('anybody', ['#'])
  const bridge = await startBridge(tokenFile([caller, anybody]).settings)
  return { bridge, caller, anybody }
}

test('publishing needs a rule that matches the topic', async () => {
  const { bridge, caller } = await start()
  expect((await publish(bridge, { topic: 'out/a' }, caller.headers)).status).toBe(200)
  const { body, headers } = await publish(bridge, { topic: 'in/a' }, caller.headers)
  expect(body).toMatchObject({
    ...FORBIDDEN,
    detail: 'Publishing to in/a needs a publish rule that matches it',
    retryable: false,
  })
  expect(headers.get('www-authenticate')).toBe('Bearer realm="causeway", error="insufficient_scope"')
  expect((await publishRaw(bridge, 'topic=out/a/b', 'x', caller.headers)).body).toMatchObject(FORBIDDEN)
})

test('what is forbidden never reaches the broker', async () => {
  const { bridge, caller, anybody } = await start()
  const stream = await openStream(`${bridge.url}/subscribe?topic=%23`, anybody.headers)
  await publish(bridge, { topic: 'in/a', payload: 'no' }, caller.headers)
  await publish(bridge, { topic: 'out/a', payload: 'yes' }, caller.headers)
  expect((await stream.next()).data).toMatchObject({ topic: 'out/a', payload: 'yes' })
})

test('a message of a batch that is forbidden fails alone', async () => {
  const { bridge, caller } = await start()
  const messages = [{ topic: 'out/a' }, { topic: 'in/a' }, { topic: 'out/b' }]
  const array = await send(
    bridge,
    'POST',
    '/publish/batch',
    { ...caller.headers, 'content-type': 'application/json' },
    JSON.stringify(messages),
  )
  expect(array.status).toBe(207)
  expect(array.body).toMatchObject([{ status: 200 }, { problem: FORBIDDEN }, { status: 200 }])
  const lines = await send(
    bridge,
    'POST',
    '/publish/batch',
    { ...caller.headers, 'content-type': 'application/x-ndjson' },
    messages.map((message) => JSON.stringify(message)).join('\n'),
  )
  expect(
    lines.body
      .trim()
      .split('\n')
      .map((line: string) => JSON.parse(line)),
  ).toMatchObject([{ status: 200 }, { problem: FORBIDDEN }, { status: 200 }, { end: true, read: 3, published: 2 }])
})

test('a request needs a rule that matches its topic', async () => {
  const { bridge, caller } = await start()
  expect((await send(bridge, 'POST', '/request?topic=in/a', caller.headers, 'x')).body).toMatchObject(FORBIDDEN)
  expect((await send(bridge, 'POST', '/request?topic=out/a', caller.headers, 'x')).body).toMatchObject({
    code: 'no-responder',
  })
})

test('subscribing needs a rule that contains every filter', async () => {
  const { bridge, caller } = await start()
  for (const query of ['topic=in/+', 'topic=in/a', 'topic=in/a&topic=in/b']) {
    expect((await openStream(`${bridge.url}/subscribe?${query}`, caller.headers)).status).toBe(200)
  }
  for (const [query, filter] of [
    ['topic=in/%23', 'in/#'],
    ['topic=in/a&topic=out/a', 'out/a'],
    ['topic=%23', '#'],
    ['topic=$share/g/in/%23', '$share/g/in/#'],
    ['topic=in/%23&session=s', 'in/#'],
  ] as const) {
    const { body } = await get(bridge, `/subscribe?${query}`, caller.headers)
    expect(body).toMatchObject({
      ...FORBIDDEN,
      detail: `Subscribing to ${filter} needs a subscribe rule that contains it`,
    })
  }
})

test('a filter behind $share needs a rule of its own, and that is enough', async () => {
  const { bridge, caller } = await start()
  expect((await get(bridge, '/subscribe?topic=$share/g/out/a', caller.headers)).body).toMatchObject(FORBIDDEN)
  const stream = await openStream(`${bridge.url}/subscribe?topic=$share/g/in/a`, caller.headers)
  expect(stream.status).toBe(200)
})

test('reading what is retained needs the rule of a subscription, clearing it that of a publish', async () => {
  const { bridge, caller, anybody } = await start()
  await publish(bridge, { topic: 'in/a', payload: 'x', retain: true }, anybody.headers)
  await publish(bridge, { topic: 'out/a', payload: 'x', retain: true }, anybody.headers)
  expect((await get(bridge, '/retained?topic=in/a', caller.headers)).body).toBe('x')
  for (const topic of ['out/a', 'in/%23']) {
    expect((await get(bridge, `/retained?topic=${topic}`, caller.headers)).body).toMatchObject(FORBIDDEN)
  }
  expect((await send(bridge, 'DELETE', '/retained?topic=in/a', caller.headers)).body).toMatchObject(FORBIDDEN)
  expect((await send(bridge, 'DELETE', '/retained?topic=out/a', caller.headers)).status).toBe(200)
})

test('a refusal says nothing of what else there is', async () => {
  const { bridge, caller } = await start()
  const { body } = await get(bridge, '/retained?topic=secret', caller.headers)
  expect(JSON.stringify(body)).not.toMatch(/in\/|out\/|token|anybody/)
})
