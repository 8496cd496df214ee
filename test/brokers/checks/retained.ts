import type { Capability } from '../check.ts'
import { inQuery, publish, publishAll, request } from '../ground.ts'
import { numbers } from '../judge.ts'
import { Limit, Refused, Wrong } from '../outcome.ts'

interface Retained {
  topic: string
  payload: string
}

export const retained: Capability = {
  title: 'Retained messages',
  checks: [
    {
      title: 'Read of one topic, and 404 where there is none',
      dishonest: ['not-found'],
      async run(ground) {
        const bridge = await ground.bridge()
        const read = (name: string) => request(`${bridge.url}/retained?topic=${inQuery(ground.topic(name))}`)
        await publish(bridge, { topic: ground.topic(), payload: 'kept', retain: true })
        for (let round = 0; round < 5; round += 1) {
          const { text } = await read('a')
          if (text !== 'kept') throw new Wrong(`read ${JSON.stringify(text.slice(0, 60))}`)
        }
        try {
          await read('absent')
        } catch (error) {
          if (error instanceof Refused && error.status === 404) return
          throw error
        }
        throw new Wrong('200 where nothing is retained')
      },
    },
    {
      title: 'Read of a wildcard',
      isBrief: true,
      dishonest: ['not-found'],
      async run(ground) {
        const bridge = await ground.bridge()
        for (const name of ['x/1', 'x/2', 'y']) {
          await publish(bridge, { topic: ground.topic(name), payload: name, retain: true })
        }
        const { text } = await request(`${bridge.url}/retained?topic=${inQuery(ground.topic('#'))}`)
        const came = (JSON.parse(text) as Retained[]).map(({ payload }) => payload).sort()
        if (came.join() !== 'x/1,x/2,y') throw new Wrong(`200 with [${came}] of x/1, x/2, y`)
      },
    },
    {
      title: '60 read at once, five times',
      isBrief: true,
      dishonest: ['not-found'],
      async run(ground) {
        const bridge = await ground.bridge()
        await publishAll(
          bridge,
          numbers(0, 60).map((payload) => ({ topic: ground.topic(payload), payload, retain: true })),
        )
        const counts: number[] = []
        for (let round = 0; round < 5; round += 1) {
          const { text } = await request(`${bridge.url}/retained?topic=${inQuery(ground.topic('#'))}`)
          counts.push(new Set((JSON.parse(text) as Retained[]).map(({ payload }) => payload)).size)
        }
        if (counts.some((count) => count !== 60)) throw new Wrong(`200 with ${counts.join(', ')} of 60`)
      },
    },
    {
      title: 'Their properties are read',
      dishonest: ['not-found'],
      async run(ground) {
        const bridge = await ground.bridge()
        await publish(bridge, {
          topic: ground.topic(),
          payload: '{}',
          retain: true,
          properties: { contentType: 'application/json', userProperties: { colour: 'red' } },
        })
        const { headers } = await request(`${bridge.url}/retained?topic=${inQuery(ground.topic())}`)
        const contentType = headers.get('content-type')
        if (contentType !== 'application/json') throw new Wrong(`read with content type ${contentType}`)
        if (![...headers].flat().join().includes('red')) throw new Wrong('read without its user property')
      },
    },
    {
      title: 'DELETE clears one',
      async run(ground) {
        const bridge = await ground.bridge()
        const url = `${bridge.url}/retained?topic=${inQuery(ground.topic())}`
        await publish(bridge, { topic: ground.topic(), payload: 'kept', retain: true })
        await request(url, { method: 'DELETE' })
        try {
          await request(url)
        } catch (error) {
          if (error instanceof Refused && error.status === 404) return
          throw error
        }
        throw new Wrong('still read after DELETE')
      },
    },
    {
      title: 'A stream begins with all 60 of them, live ones behind; a later reader alike',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        await publishAll(
          bridge,
          numbers(0, 60).map((payload) => ({ topic: ground.topic(payload), payload, retain: true })),
        )
        const first = await ground.stream(bridge, ground.topic('#'), { retained: 'true' })
        await first.count(60)
        const second = await ground.stream(bridge, ground.topic('#'), { retained: 'true' })
        await second.count(60)
        await publish(bridge, { topic: ground.topic('live'), payload: 'live' })
        for (const reader of [first, second]) {
          await reader.until(() => reader.payloads().includes('live'))
          const came = reader.messages()
          const kept = new Set(
            came.filter(({ data }) => data.retain === true).map(({ data }) => data.payload as string),
          )
          // Moquette hands some on without RETAIN at QoS 1: all are there, once, and in front, though as live ones.
          const isComplete = came.length === 61 && new Set(came.map(({ data }) => String(data.payload))).size === 61
          if (kept.size < 60 && isComplete && came.at(-1)!.data.payload === 'live') {
            throw new Limit('all of them come, some or all as live messages')
          }
          if (kept.size !== 60) {
            if (reader.gaps().length > 0) throw new Limit(`${kept.size} of 60, said with gap ${reader.gaps()[0]}`)
            throw new Wrong(`${kept.size} of 60 at the beginning, without a gap`)
          }
          if (came.length !== 61) throw new Wrong(`${came.length} events of 60 retained messages and a live one`)
          if (came.at(-1)!.data.payload !== 'live') throw new Wrong('the live message was not behind them')
        }
      },
    },
  ],
}
