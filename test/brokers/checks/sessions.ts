import type { Capability } from '../check.ts'
import type { BridgeProcess } from '../bridge-process.ts'
import { eventually, type Ground, publish, publishAll, quiet, request, type Session } from '../ground.ts'
import { judge, numbers } from '../judge.ts'
import { Limit, Wrong } from '../outcome.ts'
import { PATIENCE_MS } from '../stream-reader.ts'

/** NATS sends what is not acknowledged again after half a minute. */
const REDELIVERY_MS = 35_000

/** A session event says that the broker did not have it. */
function judgeSession(session: Session, expectation: Parameters<typeof judge>[1]): void {
  try {
    judge(session.events, expectation)
  } catch (error) {
    if (error instanceof Wrong && error.message.includes('missing') && !session.about.present) {
      throw new Limit(`${error.message}, but with present: false`)
    }
    throw error
  }
}

const send = (bridge: Pick<BridgeProcess, 'url'>, topic: string, payloads: string[]) =>
  publishAll(
    bridge,
    payloads.map((payload) => ({ topic, payload })),
  )

async function leave(reader: Session): Promise<void> {
  reader.close()
  await reader.ended
}

/**
 * Takes them all, also of a broker that hands over few at a time: where no more come, what came is acknowledged.
 * @param ms how long nothing has to come until it counts as lost
 */
async function takeAll(
  ground: Ground,
  bridge: Pick<BridgeProcess, 'url'>,
  reader: Session,
  expected: string[],
  ms = PATIENCE_MS,
): Promise<void> {
  const isAll = () => expected.every((payload) => reader.payloads().includes(payload))
  for (let acknowledged = 0; !(await reader.until(isAll, 2000)) && !reader.isEnded();) {
    const last = reader.messages().at(-1)
    if (last !== undefined && reader.messages().length > acknowledged) {
      acknowledged = reader.messages().length
      await ground.acknowledge(bridge, reader, last)
    } else if (!(await reader.count(acknowledged + 1, ms))) {
      return
    }
  }
}

/** A session of which 4 of 10 messages were acknowledged at one bridge goes on at another, or at the same one. */
async function redeliver(
  ground: Ground,
  from: Pick<BridgeProcess, 'url'>,
  to: Pick<BridgeProcess, 'url'>,
  end: (before: Session) => Promise<void>,
): Promise<void> {
  const topic = ground.topic()
  const before = await ground.session(from, { topic })
  await send(to, topic, numbers(0, 10))
  await before.count(10)
  judge(before.events, { expected: before.payloads() })
  if (before.messages().length === 0) throw new Wrong('none of 10 came')
  // Those of a broker that mixes the order are any four.
  const done = before.payloads().slice(0, 4)
  await ground.acknowledge(from, before, before.messages().slice(0, 4).at(-1)!)
  await end(before)
  await send(to, topic, numbers(10, 15))
  const behind = await ground.session(to, { topic })
  const waiting = numbers(0, 15).filter((payload) => !done.includes(payload))
  await takeAll(ground, to, behind, waiting, REDELIVERY_MS)
  await quiet()
  const again = behind.payloads().filter((payload) => done.includes(payload))
  judgeSession(behind, { expected: [...new Set([...again, ...waiting])], seen: before.payloads() })
}

/** One reader after the other takes a session with unacknowledged messages; `bridges` say where each opens it. */
async function takeOver(ground: Ground, bridges: Pick<BridgeProcess, 'url'>[]): Promise<void> {
  const topic = ground.topic()
  let before = await ground.session(bridges[0]!, { topic })
  const seen: string[] = []
  for (const [round, bridge] of bridges.slice(1).entries()) {
    const fresh = numbers(round * 3, round * 3 + 3)
    await send(bridges[0]!, topic, fresh)
    await before.until(() => fresh.every((payload) => before.payloads().includes(payload)))
    const came = before.payloads().filter((payload) => fresh.includes(payload))
    if (came.length === 0) throw new Wrong(`round ${round}: none of 3 came to the reader that has the session`)
    seen.push(...came)
    const after = await ground.session(bridge, { topic })
    if (!(await before.until(() => before.isEnded()))) throw new Wrong(`round ${round}: the first stream goes on`)
    const said = before.events.some(({ event, data }) => event === 'status' && data.session === 'taken-over')
    if (!said) throw new Wrong(`round ${round}: the first stream ended without taken-over`)
    await takeAll(ground, bridge, after, fresh, REDELIVERY_MS)
    await quiet()
    const again = after.payloads().filter((payload) => seen.includes(payload) && !fresh.includes(payload))
    judgeSession(after, { expected: [...again, ...fresh], seen })
    seen.push(...after.payloads())
    await ground.acknowledge(bridge, after, after.messages().at(-1)!)
    before = after
  }
}

export const sessions: Capability = {
  title: 'Durable sessions',
  checks: [
    {
      title: 'What is published while the reader is away comes, in order',
      async run(ground) {
        const bridge = await ground.bridge()
        const topic = ground.topic()
        const before = await ground.session(bridge, { topic })
        if (before.about.present) throw new Wrong('a new session is present')
        await send(bridge, topic, numbers(0, 5))
        await before.count(5)
        await ground.acknowledge(bridge, before, before.messages().at(-1)!)
        await leave(before)
        await quiet()
        await send(bridge, topic, numbers(5, 25))
        const behind = await ground.session(bridge, { topic })
        await takeAll(ground, bridge, behind, numbers(5, 25))
        await quiet()
        // Artemis may take the acknowledgements only behind the DISCONNECT, and sends those messages again.
        const again = numbers(0, 5).filter((payload) => behind.payloads().includes(payload))
        judgeSession(behind, { expected: [...again, ...numbers(5, 25)], seen: again })
        if (!behind.about.present) throw new Limit('all came, though with present: false')
      },
    },
    {
      title: 'What was not acknowledged comes again, marked',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        await redeliver(ground, bridge, bridge, async (before) => {
          await leave(before)
          await quiet()
        })
      },
      limitMs: 120_000,
    },
    {
      title: 'Messages that are equal are not taken for one another',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const topic = ground.topic()
        const equal = (count: number) => Array.from({ length: count }, () => '21.5')
        const before = await ground.session(bridge, { topic })
        await send(bridge, topic, equal(10))
        await before.count(10)
        const came = before.messages()
        if (came.length < 3) throw new Wrong(`${came.length} of 10 came at first`)
        await ground.acknowledge(bridge, before, came[2]!)
        await leave(before)
        await quiet()
        const behind = await ground.session(bridge, { topic, lastEventId: came[2]!.id })
        const isSaid = () => !behind.about.present || behind.gaps().length > 0
        // Of few at a time the rest comes once those are acknowledged.
        let acknowledged = 0
        while (!(await behind.count(7, 3000)) && (await behind.count(acknowledged + 1, REDELIVERY_MS))) {
          acknowledged = behind.messages().length
          await ground.acknowledge(bridge, behind, behind.messages().at(-1)!)
        }
        if (behind.messages().length > 0) await ground.acknowledge(bridge, behind, behind.messages().at(-1)!)
        await quiet()
        const again = behind.messages().length
        if (again < 7) {
          const missing = `${again} of 7 that were not acknowledged came again`
          if (isSaid()) throw new Limit(`${missing}, and it was said`)
          throw new Wrong(`${missing}, without a gap`)
        }
        await send(bridge, topic, equal(5))
        acknowledged = again
        while (!(await behind.count(again + 5, 3000)) && (await behind.count(acknowledged + 1))) {
          acknowledged = behind.messages().length
          await ground.acknowledge(bridge, behind, behind.messages().at(-1)!)
        }
        const fresh = behind.messages().length - again
        if (fresh < 5) throw new Wrong(`${fresh} of 5 came after the reconnect, without a gap`)
      },
      limitMs: 120_000,
    },
    {
      title: 'Taken over at the same bridge, four times',
      limitMs: 240_000,
      async run(ground) {
        const bridge = await ground.bridge()
        await takeOver(
          ground,
          Array.from({ length: 5 }, () => bridge),
        )
      },
    },
    {
      title: 'Taken over by another bridge, six times',
      isBrief: true,
      limitMs: 300_000,
      async run(ground) {
        const [one, two] = [await ground.bridge(), await ground.ownBridge()]
        await takeOver(ground, [one, two, one, two, one, two, one])
      },
    },
    {
      title: 'DELETE ends it at the broker',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const topic = ground.topic()
        const before = await ground.session(bridge, { topic })
        await send(bridge, topic, numbers(0, 3))
        await before.count(3)
        await request(`${bridge.url}/sessions/${before.about.id}`, { method: 'DELETE' })
        if (!(await before.until(() => before.isEnded()))) throw new Wrong('its stream goes on')
        await send(bridge, topic, numbers(3, 6))
        const behind = await ground.session(bridge, { topic })
        await publish(bridge, { topic, payload: 'last' })
        await takeAll(ground, bridge, behind, ['last'])
        const alive = behind.payloads().filter((payload) => payload !== 'last')
        if (alive.length > 0) throw new Wrong(`204, and ${alive.length} messages of the deleted session came`)
        if (behind.about.present) throw new Wrong('204, and it is present')
        if (behind.messages().length === 0) throw new Wrong('the new session gets nothing')
      },
    },
    {
      title: 'kill -9 of the bridge: another has all of it',
      isBrief: true,
      async run(ground) {
        const bridge = await ground.bridge()
        const killed = await ground.ownBridge()
        await redeliver(ground, killed, bridge, async () => {
          await quiet()
          await killed.end('SIGKILL')
        })
      },
      limitMs: 120_000,
    },
    {
      title: '300 messages to a session with a window of 100, in order',
      limitMs: 90_000,
      async run(ground) {
        const bridge = await ground.bridge()
        const topic = ground.topic()
        const before = await ground.session(bridge, { topic })
        await leave(before)
        await quiet()
        await send(bridge, topic, numbers(0, 300))
        const behind = await ground.session(bridge, { topic })
        let acknowledged = 0
        // An acknowledgement now and then, never behind the last of the window.
        while (new Set(behind.payloads()).size < 300) {
          if (!(await behind.count(acknowledged + 1))) break
          acknowledged = behind.messages().length
          await ground.acknowledge(bridge, behind, behind.messages().at(-1)!)
        }
        await quiet()
        judgeSession(behind, { expected: numbers(0, 300) })
      },
    },
    {
      title: 'The link is cut under a reader: nothing is lost',
      limitMs: 180_000,
      async run(ground) {
        const bridge = await ground.ownBridge()
        const publisher = await ground.client()
        const topic = ground.topic()
        const reader = await ground.session(bridge, { topic })
        for (let round = 0; round < 3; round += 1) {
          for (const payload of numbers(round * 10, round * 10 + 10)) {
            await publisher.publishAsync(topic, payload, { qos: 1 })
            if (payload.endsWith('5')) bridge.link.cut()
          }
          await takeAll(ground, bridge, reader, numbers(0, round * 10 + 10), REDELIVERY_MS)
          await ground.acknowledge(bridge, reader, reader.messages().at(-1)!)
        }
        await quiet()
        judge(reader.events, { expected: numbers(0, 30) })
      },
    },
    {
      title: 'The broker is killed and started: what is lost is said',
      limitMs: 90_000,
      async run(ground) {
        const bridge = await ground.ownBridge()
        const topic = ground.topic()
        const before = await ground.session(bridge, { topic })
        await send(bridge, topic, numbers(0, 5))
        await before.count(5)
        await ground.acknowledge(bridge, before, before.messages()[4]!)
        await leave(before)
        await quiet()
        await send(bridge, topic, numbers(5, 10))
        await ground.broker.kill()
        await ground.broker.start()
        await eventually(() => publish(bridge, { topic, payload: '10' }), 30_000)
        const behind = await ground.session(bridge, { topic })
        await eventually(() => publish(bridge, { topic, payload: '11' }), 10_000)
        await takeAll(ground, bridge, behind, numbers(5, 12))
        await quiet()
        // A broker that has not saved an acknowledgement sends the message again.
        const again = numbers(0, 5).filter((payload) => behind.payloads().includes(payload))
        try {
          judgeSession(behind, { expected: [...again, ...numbers(5, 12)], seen: again })
        } catch (error) {
          // The promise is that it is said.
          if (!(error instanceof Limit)) throw error
        }
      },
    },
  ],
}
