import { describe, expect, test } from 'vitest'
import { BROKERS, startBridge } from './support/bridge.ts'
import { publish } from './support/http.ts'
import { openStream } from './support/stream.ts'

describe.each(BROKERS)('on $name', ({ start, protocol }) => {
  test('what is published arrives', async () => {
    const bridge = await startBridge(await start())
    const stream = await openStream(`${bridge.url}/subscribe?topic=a/+`)
    expect(stream.status).toBe(200)
    const { status, body } = await publish(bridge, { topic: 'a/b', payload: 'x', qos: 2 })
    expect(status).toBe(200)
    expect(body.reasonCode).toBe(protocol === 5 ? 0 : null)
    expect((await stream.next()).data).toMatchObject({ topic: 'a/b', payload: 'x' })
  })
})
