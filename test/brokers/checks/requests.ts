import type { Capability } from '../check.ts'
import { inQuery, post } from '../ground.ts'
import { Limit, Refused, Wrong } from '../outcome.ts'

export const requests: Capability = {
  title: 'Request and response',
  checks: [
    {
      title: 'The reply is the answer, ten times at once',
      isBrief: true,
      dishonest: ['no-responder', 'no-reply'],
      async run(ground) {
        const bridge = await ground.bridge()
        const responder = await ground.client()
        responder.on('message', (_topic, payload, { properties }) => {
          if (properties?.responseTopic === undefined) return
          responder.publish(properties.responseTopic, `re:${payload.toString()}`, {
            qos: 1,
            properties: {
              contentType: 'text/plain',
              ...(properties.correlationData && { correlationData: properties.correlationData }),
            },
          })
        })
        await responder.subscribeAsync(ground.topic(), { qos: 1 })
        await Promise.all(
          Array.from({ length: 10 }, async (_, index) => {
            const { text, headers } = await post(
              `${bridge.url}/request?topic=${inQuery(ground.topic())}&timeout=5000`,
              `${index}`,
            )
            if (text !== `re:${index}`) throw new Wrong(`${index} was answered with ${text}`)
            if (!headers.get('content-type')?.startsWith('text/plain')) throw new Wrong('without its content type')
          }),
        )
      },
    },
    {
      title: 'Nobody there: 404',
      isBrief: true,
      dishonest: ['no-reply'],
      async run(ground) {
        const bridge = await ground.bridge()
        try {
          await post(`${bridge.url}/request?topic=${inQuery(ground.topic())}&timeout=1500`, 'x')
        } catch (error) {
          if (!(error instanceof Refused)) throw error
          if (error.code === 'no-responder') return
          if (error.code === 'no-reply') throw new Limit('504 no-reply: the broker does not tell who subscribes')
          throw error
        }
        throw new Wrong('200 where nobody replied')
      },
    },
  ],
}
