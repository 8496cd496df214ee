import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { type Bridge, startBridge } from '../../support/bridge.ts'
import { get } from '../../support/http.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { acknowledge, openSession, told } from '../../support/session.ts'
import { openStream } from '../../support/stream.ts'

const isSession = (peer: Peer) => peer.connect?.clientId.startsWith('causeway-session-') === true
const isSubscriber = (peer: Peer) => peer.connect?.clientId.includes('-subscribe-') === true
const message = (messageId: number, payload: string, dup = false) =>
  ({ cmd: 'publish', topic: 'a', payload, qos: 1, retain: false, dup, messageId }) as const

/** A broker that has a session already, with these messages in it. How it sends again is known, or only after `shows`. */
async function startWithSession(
  redelivery: 'marked' | 'unmarked' | 'lost',
  protocol: string,
  payloads: string[],
  shows?: Promise<void>,
) {
  const broker = await startScriptedBroker(
    (packet, peer) => {
      if (packet.cmd !== 'connect' || !isSession(peer)) return false
      peer.accept(true)
      peer.send(...payloads.map((payload, index) => message(index + 1, payload)))
      return true
    },
    { redelivery, ...(shows && { redeliveryShows: shows }) },
  )
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
  if (shows === undefined) {
    // The first session makes the bridge find it out.
    const first = await openSession(bridge, { name: 'first' })
    await expect.poll(() => learnt(bridge)).toMatchObject({ redelivery })
    first.close()
  }
  return { bridge, session: () => broker.peers.findLast(isSession)! }
}

const learnt = async (bridge: Bridge) => (await get(bridge, '/readyz?verbose')).body.broker.learnt

test.each(['5', '3.1.1'])(
  'where the broker sends again without DUP, what waits in a session is marked, over MQTT %s',
  async (protocol) => {
    const { bridge, session } = await startWithSession('unmarked', protocol, ['x', 'y'])
    const reader = await openSession(bridge, { ack: 'explicit' })
    const waiting = await reader.take(2)
    expect(told(waiting)).toEqual(['!x', '!y'])
    expect(await learnt(bridge)).toMatchObject({ redelivery: 'unmarked' })
    await acknowledge(bridge, reader, waiting[1]!)
    // Once all is here that waited, the rest is new.
    let id = 3
    await expect
      .poll(async () => {
        session().send(message((id += 1), `${id}`))
        const event = await reader.next()
        await acknowledge(bridge, reader, event)
        return event.data.redelivered
      })
      .toBeUndefined()
  },
)

test('where the broker marks what it sends again, the rest is not', async () => {
  const { bridge } = await startWithSession('marked', '5', ['x', 'y'])
  const reader = await openSession(bridge, { ack: 'explicit' })
  expect(told(await reader.take(2))).toEqual(['x', 'y'])
  expect(await learnt(bridge)).toMatchObject({ redelivery: 'marked' })
})

test('where the broker gives identifiers away that wait for a PUBACK, a session that goes on begins with a gap', async () => {
  const { bridge } = await startWithSession('lost', '3.1.1', ['x'])
  const reader = await openSession(bridge, { ack: 'explicit' })
  expect(reader.about.data).toMatchObject({ present: true })
  expect(await reader.next()).toMatchObject({ event: 'gap', data: { reason: 'broker-session-lost' } })
  expect(told([await reader.next()])).toEqual(['x'])
})

test('a session does not wait until that is known: what waits in it is marked, and a gap may come later', async () => {
  for (const redelivery of ['marked', 'lost'] as const) {
    let show = (): void => {}
    const shows = new Promise<void>((resolve) => (show = resolve))
    const { bridge, session } = await startWithSession(redelivery, '5', ['x'], shows)
    const reader = await openSession(bridge, { ack: 'explicit' })
    expect(told([await reader.next()])).toEqual(['!x'])
    show()
    await expect.poll(() => learnt(bridge)).toMatchObject({ redelivery })
    if (redelivery === 'lost') expect((await reader.next()).data).toEqual({ reason: 'broker-session-lost' })
    else {
      session().send(message(2, 'y'))
      expect(told([await reader.next()])).toEqual(['y'])
    }
  }
})

/** A broker that sends these messages on the second connection of the streams, at once. */
async function startResuming(
  manners: { redelivery?: 'lost' },
  again: () => ReturnType<typeof message>[],
  isPresent = true,
) {
  let connections = 0
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect' || !isSubscriber(peer) || packet.clean === true) return false
    connections += 1
    peer.accept(connections > 1 && isPresent)
    if (connections > 1) peer.send(...again())
    return true
  }, manners)
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
  const subscriber = broker.peers.findLast(isSubscriber)!
  return { stream, subscriber }
}

test('such a broker is known by its first packet behind a reconnect, and the streams get a gap', async () => {
  const { stream, subscriber } = await startResuming({ redelivery: 'lost' }, () => [message(1, 'z')])
  subscriber.send(message(1, 'x'))
  expect((await stream.next()).data.payload).toBe('x')
  subscriber.close()
  await expect
    .poll(() => stream.events.filter(({ event }) => event === 'gap').map(({ data }) => data.reason))
    .toEqual(['broker-session-lost'])
})

// ActiveMQ says that it has no session, and sends what it has for it.
test.each([true, false])('what comes again without DUP is marked, with session present %s', async (isPresent) => {
  const again = () => [message(1, 'x'), message(2, 'y')]
  const { stream, subscriber } = await startResuming({}, again, isPresent)
  subscriber.send(message(7, 'x'))
  expect((await stream.next()).data.redelivered).toBeUndefined()
  subscriber.close()
  const messages = () => stream.events.filter(({ event }) => event === 'message')
  await expect
    .poll(() => messages().map(({ data }) => [data.payload, data.redelivered]))
    .toEqual([
      ['x', undefined],
      ['x', true],
      ['y', undefined],
    ])
})

test('a trial whose connection is lost shows nothing, and is over', async () => {
  let tried = 0
  const broker = await startScriptedBroker(() => {}, { redelivery: 'cut', onRedeliveryTried: () => (tried += 1) })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  await openSession(bridge)
  await expect.poll(() => tried).toBe(1)
  // It would be connected anew after some 50 ms, again and again, and after three seconds messages would count as lost.
  await delay(1000)
  expect(tried).toBe(1)
  expect(await learnt(bridge)).not.toHaveProperty('redelivery')
})
