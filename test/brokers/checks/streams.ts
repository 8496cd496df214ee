import type { Capability } from '../check.ts'
import { publish, publishAll, quiet, within } from '../ground.ts'
import { judge, numbers } from '../judge.ts'
import { Limit, Wrong } from '../outcome.ts'
import type { StreamReader } from '../stream-reader.ts'

/** Each message to one of the readers. */
function judgeShares(readers: StreamReader[], expected: string[]): void {
  judge(
    readers.flatMap(({ events }) => events),
    { expected, ordered: false },
  )
}

export const streams: Capability = {
  title: 'Streams',
  checks: [
    {
      title: 'A stream that has begun misses nothing',
      async run(ground) {
        const bridge = await ground.bridge()
        const publisher = await ground.client()
        for (let round = 0; round < 10; round += 1) {
          const topic = ground.topic(`${round}`)
          const reader = await ground.stream(bridge, topic)
          await publisher.publishAsync(topic, 'x', { qos: 1 })
          if (!(await reader.count(1))) throw new Wrong(`no event in round ${round}`)
          const { data } = reader.messages()[0]!
          if (data.topic !== topic || data.payload !== 'x' || data.encoding !== 'utf8' || data.retain !== false) {
            throw new Wrong(`the event is ${JSON.stringify(data)}`)
          }
        }
      },
    },
    {
      title: 'Wildcards match what MQTT says',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const one = await ground.stream(bridge, ground.topic('w/+/z'))
        const all = await ground.stream(bridge, ground.topic('w/#'))
        const names = ['w', 'w/x', 'w/x/z', 'w/y/z', 'w/x/y/z', 'v/x/z', 'w//z']
        await publishAll(
          bridge,
          names.map((name) => ({ topic: ground.topic(name), payload: name })),
        )
        await one.count(3)
        await all.count(6)
        await quiet()
        judge(one.events, { expected: ['w/x/z', 'w/y/z', 'w//z'], ordered: false })
        judge(all.events, { expected: names.filter((name) => name !== 'v/x/z'), ordered: false })
      },
    },
    {
      title: 'Properties are delivered',
      async run(ground) {
        const bridge = await ground.bridge()
        if (ground.protocol !== '5') throw new Limit('MQTT 3.1.1 has no properties')
        const reader = await ground.stream(bridge, ground.topic())
        const publisher = await ground.client()
        const published = publisher.publishAsync(ground.topic(), '{}', {
          qos: 1,
          properties: {
            contentType: 'application/json',
            correlationData: Buffer.from('key'),
            userProperties: { colour: 'red' },
          },
        })
        published.catch(() => {})
        await within(published, 'the broker does not acknowledge a publish with such properties')
        if (!(await reader.count(1))) throw new Wrong('no event')
        const { properties = {} } = reader.messages()[0]!.data
        const came = JSON.stringify([properties.contentType, properties.correlationData, properties.userProperties])
        if (came !== '["application/json","a2V5",{"colour":"red"}]') throw new Wrong(`delivered as ${came}`)
      },
    },
    {
      title: 'Overlapping filters of one stream: each message once',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const filters = ['o/#', 'o/+', 'o/a'].map((name) => ground.topic(name))
        const reader = await ground.stream(bridge, filters)
        for (const qos of [0, 1] as const) {
          const expected = numbers(qos * 10, qos * 10 + 10)
          const behind = reader.messages().length
          await publishAll(
            bridge,
            expected.map((payload) => ({ topic: ground.topic('o/a'), payload, qos })),
          )
          await reader.count(behind + 10)
          await quiet()
        }
        judge(reader.events, { expected: numbers(0, 20) })
      },
    },
    {
      title: 'Overlapping filters of many readers: each message once for each',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const readers: StreamReader[] = []
        for (const name of ['o/#', 'o/+', 'o/a', '+/a', '#', '+/+']) {
          readers.push(await ground.stream(bridge, ground.topic(name)))
        }
        await publishAll(
          bridge,
          numbers(0, 10).map((payload) => ({ topic: ground.topic('o/a'), payload })),
        )
        await Promise.all(readers.map((reader) => reader.count(10)))
        await quiet()
        for (const { events } of readers) judge(events, { expected: numbers(0, 10) })
      },
    },
    {
      title: '`$share`: each message to one reader, of two bridges too',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const other = await ground.ownBridge()
        const filter = `$share/group/${ground.topic()}`
        const readers = [
          await ground.stream(bridge, filter),
          await ground.stream(bridge, filter),
          await ground.stream(other, filter),
        ]
        await publishAll(
          bridge,
          numbers(0, 30).map((payload) => ({ topic: ground.topic(), payload })),
        )
        const all = () => readers.reduce((sum, { messages }) => sum + messages().length, 0)
        await readers[0]!.until(() => all() >= 30, 3000)
        await readers[2]!.until(() => all() >= 30)
        await quiet()
        judgeShares(readers, numbers(0, 30))
      },
    },
    {
      title: '`$share` beside a plain filter: both get theirs',
      async run(ground) {
        const bridge = await ground.bridge()
        const shared = await ground.stream(bridge, `$share/group/${ground.topic()}`)
        const plain = await ground.stream(bridge, ground.topic())
        await publishAll(
          bridge,
          numbers(0, 20).map((payload) => ({ topic: ground.topic(), payload })),
        )
        await Promise.all([shared, plain].map((reader) => reader.count(20)))
        await quiet()
        judge(plain.events, { expected: numbers(0, 20) })
        judge(shared.events, { expected: numbers(0, 20), ordered: false })
      },
    },
    {
      title: '`Last-Event-ID` goes on exactly behind',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const topic = ground.topic()
        const before = await ground.stream(bridge, topic)
        await publishAll(
          bridge,
          numbers(0, 10).map((payload) => ({ topic, payload })),
        )
        if (!(await before.count(10))) throw new Wrong('not all came before')
        before.close()
        await before.ended
        await publishAll(
          bridge,
          numbers(10, 20).map((payload) => ({ topic, payload })),
        )
        const behind = await ground.stream(bridge, topic, {}, before.messages()[4]!.id)
        await behind.count(15)
        await quiet()
        judge(behind.events, { expected: numbers(5, 20) })
        if (behind.gaps().length > 0) throw new Limit(`all came, and a gap ${behind.gaps()[0]} too`)
      },
    },
    {
      title: 'An id of another bridge: `gap`, and then live',
      async run(ground) {
        const bridge = await ground.bridge()
        const other = await ground.ownBridge()
        const topic = ground.topic()
        const before = await ground.stream(other, topic)
        await publish(bridge, { topic, payload: '0' })
        if (!(await before.count(1))) throw new Wrong('no event at the first bridge')
        const behind = await ground.stream(bridge, topic, {}, before.messages()[0]!.id)
        await publish(bridge, { topic, payload: '1' })
        await behind.count(1)
        judge(behind.events, { expected: ['1'] })
        if (!behind.gaps().includes('unknown-id')) throw new Wrong('no gap unknown-id')
      },
    },
    {
      title: '100 filters in one stream',
      async run(ground) {
        const bridge = await ground.bridge()
        const filters = numbers(0, 100).map((number) => ground.topic(`${number}/+`))
        const reader = await ground.stream(bridge, filters)
        await publishAll(
          bridge,
          numbers(0, 100).map((payload) => ({ topic: ground.topic(`${payload}/x`), payload })),
        )
        await reader.count(100)
        await quiet()
        judge(reader.events, { expected: numbers(0, 100), ordered: false })
      },
    },
    {
      title: 'A stream at QoS 2: each message once, in order',
      async run(ground) {
        const bridge = await ground.bridge()
        const reader = await ground.stream(bridge, ground.topic(), { qos: '2' })
        await publishAll(
          bridge,
          numbers(0, 100).map((payload) => ({ topic: ground.topic(), payload, qos: 2 })),
        )
        await reader.count(100)
        await quiet()
        judge(reader.events, { expected: numbers(0, 100) })
        const { qos } = reader.messages()[0]!.data
        if (qos !== 2) throw new Limit(`delivered with QoS ${qos}`)
      },
    },
  ],
}
