import type { Capability } from '../check.ts'
import { type Bridge, eventually, type Ground, inQuery, publish, quiet, request } from '../ground.ts'
import { judge, numbers } from '../judge.ts'
import { Limit, Refused, Wrong } from '../outcome.ts'
import type { StreamReader } from '../stream-reader.ts'

type Run = Capability['checks'][number]['run']

/** Cuts the link while 200 publishes are on their way: each 200 has arrived, at QoS 2 nothing twice. */
function publishOverCut(qos: 1 | 2): Run {
  return async (ground) => {
    const bridge = await ground.ownBridge()
    const observer = await ground.observe(`${ground.topic('')}#`, qos)
    await publish(bridge, { topic: ground.topic('first'), payload: 'first', qos })
    const sending = Promise.allSettled(
      numbers(0, 200).map((payload, index) => publish(bridge, { topic: ground.topic(`${index % 5}`), payload, qos })),
    )
    await Promise.race([bridge.link.received(qos === 1 ? 'puback' : 'pubrec', 20), sending])
    bridge.link.cut()
    const answers = await sending
    const acknowledged = numbers(0, 200).filter((_, index) => answers[index]!.status === 'fulfilled')
    await eventually(() => publish(bridge, { topic: ground.topic('last'), payload: 'last', qos }), 10_000)
    const has = () => new Set(observer.payloads())
    for (let waited = 0; waited < 40 && acknowledged.some((payload) => !has().has(payload)); waited += 1) await quiet()
    const lost = acknowledged.filter((payload) => !has().has(payload))
    if (lost.length > 0) {
      throw new Wrong(`${lost.length} of ${acknowledged.length} that got 200 did not arrive: ${lost.slice(0, 6)}`)
    }
    const twice = observer.payloads().length - has().size
    if (qos === 2 && twice > 0) throw new Wrong(`${twice} of 200 arrived twice`)
    const refused = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as unknown] : []))
    const unlike = refused.find((reason) => !(reason instanceof Refused))
    if (unlike !== undefined) throw unlike
    if (refused.length === 0) return
    const { status, code, message } = refused[0] as Refused
    throw new Refused(status, code, `${refused.length} of 200: ${message}`)
  }
}

/** How long a broker may take to send again what was not acknowledged, and from when on that is late. */
const AGAIN_MS = 40_000
const LATE_S = 5

/** Once the broker is back, a new message comes, and before it all there were, or a `gap`. */
async function expectAllOrGap(ground: Ground, bridge: Bridge, reader: StreamReader, sent: string[]): Promise<void> {
  await eventually(() => publish(bridge, { topic: ground.topic(), payload: 'new' }), 30_000)
  await reader.until(() => reader.payloads().includes('new'))
  await quiet()
  const startedAt = performance.now()
  const hasGap = (): boolean => reader.events.some(({ event }) => event === 'gap')
  const hasAll = (): boolean => sent.every((payload) => reader.payloads().includes(payload))
  // NATS sends again only after half a minute what it sent on the connection that was cut.
  await reader.until(() => hasGap() || hasAll(), AGAIN_MS)
  const lateS = Math.round((performance.now() - startedAt) / 1000)
  try {
    judge(reader.events, { expected: [...sent, 'new'] })
  } catch (error) {
    if (!(error instanceof Limit)) throw error
  }
  if (lateS >= LATE_S) throw new Limit(`some came ${lateS} s later, marked: the broker sends again only then`)
  await publish(bridge, { topic: ground.topic(), payload: 'newer' })
  if (!(await reader.until(() => reader.payloads().includes('newer')))) {
    throw new Wrong('nothing is delivered after the broker was back')
  }
}

async function knowsWill({ url }: Bridge): Promise<void> {
  const { text } = await request(`${url}/readyz?verbose`)
  const { broker } = JSON.parse(text) as { broker: { learnt: { retainedWills?: boolean } } }
  if (broker.learnt.retainedWills === undefined) throw new Wrong('not known yet')
}

export const outages: Capability = {
  title: 'Outages',
  checks: [
    { title: 'The link is cut during publishes, QoS 1: each 200 arrived', isBrief: true, run: publishOverCut(1) },
    { title: 'The link is cut during publishes, QoS 2: nothing twice', run: publishOverCut(2) },
    {
      title: 'The link is away and back: all messages, or `gap`',
      limitMs: 90_000,
      async run(ground) {
        const bridge = await ground.ownBridge()
        const reader = await ground.stream(bridge, ground.topic())
        const publisher = await ground.client()
        const send = (payload: string) => publisher.publishAsync(ground.topic(), payload, { qos: 1 })
        await send('0')
        await reader.count(1)
        await bridge.link.refuse()
        for (const payload of numbers(1, 20)) await send(payload)
        await bridge.link.accept()
        await expectAllOrGap(ground, bridge, reader, numbers(0, 20))
      },
    },
    {
      title: 'The broker is killed and started: all messages, or `gap`',
      limitMs: 120_000,
      async run(ground) {
        const bridge = await ground.ownBridge()
        const reader = await ground.stream(bridge, ground.topic())
        await publish(bridge, { topic: ground.topic(), payload: '0' })
        await reader.count(1)
        await ground.broker.kill()
        await ground.broker.start()
        const publisher = await ground.client()
        for (const payload of numbers(1, 6)) await publisher.publishAsync(ground.topic(), payload, { qos: 1 })
        await expectAllOrGap(ground, bridge, reader, numbers(0, 6))
      },
    },
    {
      title: 'The broker is away: 503, and `/readyz` too; back: 200',
      limitMs: 90_000,
      dishonest: ['broker-unavailable'],
      async run(ground) {
        const bridge = await ground.ownBridge()
        await publish(bridge, { topic: ground.topic(), payload: 'x' })
        await ground.broker.kill()
        const isUnready = async () => {
          const answer = await request(`${bridge.url}/readyz`).catch((error: unknown) => error)
          if (!(answer instanceof Refused)) throw new Wrong('/readyz is 200 without a broker')
        }
        await eventually(isUnready, 10_000)
        for (const call of [
          () => publish(bridge, { topic: ground.topic(), payload: 'x' }),
          () => request(`${bridge.url}/readyz`),
          () => ground.stream(bridge, ground.topic()),
          () => request(`${bridge.url}/retained?topic=${inQuery(ground.topic())}`),
        ]) {
          const answer = await call().then(
            () => 'success',
            (error: unknown) => error,
          )
          if (!(answer instanceof Refused)) throw answer instanceof Error ? answer : new Wrong('200 without a broker')
          if (answer.status !== 503) throw answer
        }
        await ground.broker.start()
        await eventually(() => publish(bridge, { topic: ground.topic(), payload: 'x' }), 30_000)
        await eventually(() => request(`${bridge.url}/readyz`), 10_000)
      },
    },
    {
      title: 'Status topic: `online`, and `offline` after a crash',
      dishonest: ['not-found'],
      async run(ground) {
        const watching = await ground.bridge()
        const reader = await ground.stream(watching, ground.topic('status'))
        const bridge = await ground.ownBridge({ STATUS_TOPIC: ground.topic('status') })
        if (!(await reader.until(() => reader.payloads().includes('online')))) throw new Wrong('never online')
        // It tries out the will meanwhile, where that shows.
        await eventually(() => knowsWill(bridge), 5000).catch(() => {})
        await bridge.end('SIGKILL')
        if (!(await reader.until(() => reader.payloads().at(-1) === 'offline', 15_000))) {
          throw new Wrong('still online 15 s after it was killed')
        }
        const { text } = await request(`${watching.url}/retained?topic=${inQuery(ground.topic('status'))}`)
        if (text === 'offline') return
        const isSaid = bridge.log().includes('does not keep a will that is to be retained')
        if (!isSaid) throw new Wrong(`${text} is retained`)
        throw new Limit(`${text} is retained: the broker does not keep the will, which the log and /readyz?verbose say`)
      },
    },
    {
      title: 'A wrong password at the broker: 401, the right one: 200',
      limitMs: 120_000,
      dishonest: ['broker-unavailable', 'unauthorized', 'not-authorized'],
      async run(ground) {
        const account = { username: 'suite', password: 'right' }
        if (ground.startWithAccount === undefined) throw new Limit('it knows no accounts')
        const broker = await ground.startWithAccount(account)
        const bridge = await ground.bridgeOn(broker.port, {
          AUTH: 'broker',
          MQTT_USERNAME: account.username,
          MQTT_PASSWORD: account.password,
        })
        const publishAs = (password: string) =>
          request(`${bridge.url}/publish?topic=${inQuery(ground.topic())}`, {
            method: 'POST',
            body: 'x',
            headers: { authorization: `Basic ${Buffer.from(`suite:${password}`).toString('base64')}` },
          })
        await eventually(() => publishAs('right'), 5000)
        for (const password of ['wrong', 'worse']) {
          const answer = await publishAs(password).then(
            ({ status }) => new Wrong(`${status} with a wrong password`),
            (error: unknown) => error,
          )
          if (!(answer instanceof Refused)) throw answer
          if (answer.status === 503 && answer.message.includes('as some brokers do over credentials')) {
            throw new Limit('503, which says that the broker closed the connection without an answer')
          }
          if (answer.status === 403) throw new Limit('403: the broker says "not authorized" of a wrong password')
          if (answer.status !== 401) throw answer
        }
        await publishAs('right')
      },
    },
  ],
}
