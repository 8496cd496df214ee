import { createHash, randomBytes } from 'node:crypto'
import type { Capability } from '../check.ts'
import { post, publish, publishAll, quiet, request } from '../ground.ts'
import { judge, numbers } from '../judge.ts'
import { Limit, OutOfOrder, Refused, Wrong } from '../outcome.ts'

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

/** What an observer got, against what was acknowledged. */
function expectOnce(payloads: string[], expected: string[]): void {
  const events = payloads.map((payload) => ({ event: 'message', id: undefined, data: { payload } }))
  judge(events, { expected, ordered: false })
}

async function matched(qos: 1 | 2, ground: Parameters<Capability['checks'][number]['run']>[0]): Promise<void> {
  const bridge = await ground.bridge()
  const topic = ground.topic()
  const nobody = await publish(bridge, { topic, payload: 'nobody', qos })
  if (nobody.matchedSubscribers === true) throw new Wrong('matchedSubscribers is true where nobody subscribes')
  const observer = await ground.observe(topic)
  const somebody = await publish(bridge, { topic, payload: 'somebody', qos })
  await observer.count(1)
  if (somebody.matchedSubscribers === false) throw new Wrong('matchedSubscribers is false where somebody subscribes')
  if (nobody.matchedSubscribers !== false) throw new Limit('matchedSubscribers is null: the broker does not tell')
}

export const publishing: Capability = {
  title: 'Publish',
  checks: [
    {
      title: 'QoS 0: 202, and it arrives',
      async run(ground) {
        const bridge = await ground.bridge()
        const observer = await ground.observe(ground.topic())
        const { status } = await publish(bridge, { topic: ground.topic(), payload: 'x', qos: 0 })
        if (status !== 202) throw new Wrong(`QoS 0 was answered with ${status}`)
        if (!(await observer.count(1))) throw new Wrong('202, and it did not arrive')
      },
    },
    {
      title: 'QoS 1: 200, and every byte arrives once',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const observer = await ground.observe(ground.topic())
        const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
        const { text } = await post(`${bridge.url}/publish?topic=${ground.topic()}`, bytes)
        if ((JSON.parse(text) as { reasonCode: number }).reasonCode >= 0x80) throw new Wrong(`200 with ${text}`)
        if (!(await observer.count(1))) throw new Wrong('200, and it did not arrive')
        await quiet()
        if (observer.packets.length > 1) throw new Wrong(`it arrived ${observer.packets.length} times`)
        if (!bytes.equals(observer.packets[0]!.payload as Buffer)) throw new Wrong('other bytes arrived')
      },
    },
    {
      title: 'QoS 2: 200, and it arrives once',
      async run(ground) {
        const bridge = await ground.bridge()
        const observer = await ground.observe(ground.topic(), 2)
        await publish(bridge, { topic: ground.topic(), payload: 'x', qos: 2 })
        if (!(await observer.count(1))) throw new Wrong('200, and it did not arrive')
        await quiet()
        if (observer.packets.length > 1) throw new Wrong(`it arrived ${observer.packets.length} times`)
      },
    },
    { title: '`matchedSubscribers` at QoS 1', isBrief: true, run: (ground) => matched(1, ground) },
    { title: '`matchedSubscribers` at QoS 2', run: (ground) => matched(2, ground) },
    {
      title: 'Order holds for each topic',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const topics = ['a', 'b', 'c'].map((name) => ground.topic(name))
        const observer = await ground.observe(`${ground.topic('')}#`)
        const messages = numbers(0, 300).map((payload, index) => ({ topic: topics[index % 3]!, payload }))
        await publishAll(bridge, messages)
        await observer.count(300)
        expectOnce(observer.payloads(), numbers(0, 300))
        for (const topic of topics) {
          const came = observer.packets.filter((packet) => packet.topic === topic).map(({ payload }) => Number(payload))
          const at = came.findIndex((number, index) => index > 0 && number < came[index - 1]!)
          if (at !== -1) throw new OutOfOrder(`out of order on one topic: ${came[at]} behind ${came[at - 1]}`)
        }
      },
    },
    ...([1, 2] as const).map((qos) => ({
      title: `300 publishes at once, QoS ${qos}`,
      async run(ground: Parameters<Capability['checks'][number]['run']>[0]) {
        const bridge = await ground.bridge()
        const observer = await ground.observe(`${ground.topic('')}#`, qos)
        const answers = await Promise.allSettled(
          numbers(0, 300).map((payload, index) =>
            publish(bridge, { topic: ground.topic(`${index % 7}`), payload, qos }),
          ),
        )
        const acknowledged = numbers(0, 300).filter((_, index) => answers[index]!.status === 'fulfilled')
        await observer.count(acknowledged.length)
        await quiet()
        const came = observer.payloads().filter((payload) => acknowledged.includes(payload))
        expectOnce(came, acknowledged)
        const refused = answers.filter((answer) => answer.status === 'rejected')
        if (refused.length === 0) return
        const { reason } = refused[0] as PromiseRejectedResult
        if (!(reason instanceof Refused)) throw reason
        throw new Refused(reason.status, reason.code, `${refused.length} of 300: ${reason.message}`)
      },
    })),
    {
      title: 'Properties are sent',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const observer = await ground.observe(ground.topic())
        await publish(bridge, {
          topic: ground.topic(),
          payload: '{}',
          properties: {
            contentType: 'application/json',
            responseTopic: ground.topic('reply'),
            correlationData: Buffer.from('key').toString('base64'),
            messageExpiryInterval: 600,
            payloadFormatIndicator: true,
            userProperties: { colour: 'red', shade: ['light', 'dark'] },
          },
        })
        if (!(await observer.count(1))) throw new Wrong('200, and it did not arrive')
        const { properties = {} } = observer.packets[0]!
        const came = JSON.stringify({
          contentType: properties.contentType,
          responseTopic: properties.responseTopic === ground.topic('reply'),
          correlationData: properties.correlationData?.toString(),
          expires: (properties.messageExpiryInterval ?? 0) > 0,
          payloadFormatIndicator: properties.payloadFormatIndicator,
          userProperties: { ...properties.userProperties },
        })
        const sent = JSON.stringify({
          contentType: 'application/json',
          responseTopic: true,
          correlationData: 'key',
          expires: true,
          payloadFormatIndicator: true,
          userProperties: { colour: 'red', shade: ['light', 'dark'] },
        })
        if (came !== sent) throw new Wrong(`properties arrived as ${came}`)
      },
    },
    {
      title: 'A message of 900 kB',
      async run(ground) {
        const bridge = await ground.bridge()
        const reader = await ground.stream(bridge, ground.topic())
        const bytes = randomBytes(900_000)
        await post(`${bridge.url}/publish?topic=${ground.topic()}`, bytes)
        if (!(await reader.count(1))) {
          if (reader.gaps().length > 0) throw new Limit(`not delivered, said with gap ${reader.gaps()[0]}`)
          throw new Wrong('200, and it did not arrive, without a gap')
        }
        const came = Buffer.from(reader.payloads()[0]!, 'base64')
        if (sha256(came) !== sha256(bytes)) throw new Wrong('other bytes arrived')
        const small = await publish(bridge, { topic: ground.topic(), payload: 'small' })
        if (small.status !== 200 || !(await reader.count(2))) throw new Wrong('the next message did not arrive')
      },
    },
    {
      title: 'A batch answers for each message, in order',
      async run(ground) {
        const bridge = await ground.bridge()
        const observer = await ground.observe(`${ground.topic('')}#`)
        const topics = [ground.topic('a'), ground.topic('+'), ground.topic('b')]
        const { status, text } = await request(`${bridge.url}/publish/batch`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(topics.map((topic, index) => ({ topic, payload: `${index}` }))),
        })
        const results = JSON.parse(text) as { index: number; status?: number; problem?: { status: number } }[]
        const told = results.map(({ index, status, problem }) => `${index}:${status ?? problem?.status}`).join(' ')
        if (status !== 207 || told !== '0:200 1:400 2:200') throw new Wrong(`${status} with ${told}`)
        await observer.count(2)
        expectOnce(observer.payloads(), ['0', '2'])
      },
    },
    {
      title: '1,000 messages reach a stream in order',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const reader = await ground.stream(bridge, ground.topic())
        await publishAll(
          bridge,
          numbers(0, 1000).map((payload) => ({ topic: ground.topic(), payload })),
        )
        await reader.count(1000, 15_000)
        await quiet()
        judge(reader.events, { expected: numbers(0, 1000) })
      },
    },
  ],
}

/** What a topic may hold that some brokers treat as their own. */
export const topics: Capability = {
  title: 'Topics',
  checks: [
    ['with `.`', 'a.b/c.d'],
    ['with `*` and `>`', 'a*b/>c'],
    ['with spaces', 'a b/c d'],
    ['beyond ASCII', 'größe/温度'],
  ].map(([title, name]) => ({
    title: `Topics ${title}`,
    isBrief: true,
    async run(ground) {
      const bridge = await ground.bridge()
      const topic = ground.topic(name)
      const reader = await ground.stream(bridge, topic)
      const wide = await ground.stream(bridge, `${ground.topic('')}#`)
      await publish(bridge, { topic, payload: 'x' })
      if (!(await reader.count(1))) {
        if (reader.gaps().length > 0) throw new Limit(`not delivered, said with gap ${reader.gaps()[0]}`)
        throw new Wrong('200, and no event')
      }
      await wide.count(1)
      for (const { messages } of [reader, wide]) {
        const came = messages().map(({ data }) => data.topic as string)
        if (came.length !== 1 || came[0] !== topic) throw new Wrong(`arrived on ${JSON.stringify(came)}`)
      }
    },
  })),
}
