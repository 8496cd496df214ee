import { expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { publish } from '../../support/http.ts'
import { openStream } from '../../support/stream.ts'

// Who gets the messages of a topic is remembered, until somebody comes or goes.
test.each(['5', '3.1.1'])(
  'whoever comes later gets what comes later of a topic, once, over MQTT %s',
  async (protocol) => {
    const bridge = await startBridge({ MQTT_PROTOCOL: protocol, STREAM_LINGER_MS: 0 })
    const open = (filters: string, accept = 'text/event-stream') =>
      openStream(`${bridge.url}/subscribe?${filters}&retained=false`, { accept })
    const payloads = (stream: Awaited<ReturnType<typeof open>>) =>
      stream.events.filter(({ event }) => event === 'message').map(({ data }) => data.payload)
    const first = await open('topic=a/b')
    await publish(bridge, { topic: 'a/b', payload: '1' })
    const sameFilter = await open('topic=a/b', 'application/x-ndjson')
    await publish(bridge, { topic: 'a/b', payload: '2' })
    const otherFilter = await open('topic=a/%2B')
    await publish(bridge, { topic: 'a/b', payload: '3' })
    const both = await open('topic=a/%2B&topic=a/b')
    await publish(bridge, { topic: 'a/b', payload: '4' })
    await expect.poll(() => payloads(first)).toEqual(['1', '2', '3', '4'])
    await expect.poll(() => payloads(otherFilter)).toEqual(['3', '4'])
    first.close()
    otherFilter.close()
    await publish(bridge, { topic: 'a/b', payload: '5' })
    await expect.poll(() => payloads(sameFilter)).toEqual(['2', '3', '4', '5'])
    await expect.poll(() => payloads(both)).toEqual(['4', '5'])
  },
)
