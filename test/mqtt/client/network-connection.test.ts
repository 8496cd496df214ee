import { expect, test } from 'vitest'
import { NetworkConnection, SessionState } from '../../../src/mqtt/client/network-connection.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'

const MESSAGE = { topic: 'a', payload: Buffer.from('x'), qos: 0 as const, retain: false }

/** An accepted connection, and the events that it has reported since. */
async function openConnection() {
  const broker = await startScriptedBroker(() => {})
  const events: string[] = []
  let opened!: () => void
  let closed!: () => void
  const [isOpen, isClosed] = [
    new Promise<void>((resolve) => (opened = resolve)),
    new Promise<void>((resolve) => (closed = resolve)),
  ]
  const network = new NetworkConnection(
    {
      endpoint: { url: broker.url, keepaliveS: 30, connectTimeoutMs: 5000, maxPacketBytes: 1_000_000 },
      protocol: 5,
      clientId: 'flushed',
      clean: true,
      session: new SessionState(),
    },
    {
      opened,
      closed: () => closed(),
      acknowledged: () => {},
      message: () => {},
      flushed: () => void events.push('flushed'),
      drained: () => {},
    },
  )
  await isOpen
  const publishes = () => broker.peers[0]!.received.filter(({ cmd }) => cmd === 'publish').length
  return { network, events, isClosed, publishes }
}

test('publishes are flushed once, at the end of the turn of the event loop', async () => {
  const { network, events, isClosed, publishes } = await openConnection()
  network.publish(MESSAGE, 0, false)
  network.publish(MESSAGE, 0, false)
  expect(events).toEqual([])
  await new Promise(setImmediate)
  expect(events).toEqual(['flushed'])
  await expect.poll(publishes).toBe(2)
  network.destroy()
  await isClosed
})

test('publishes are not reported as flushed if the connection is destroyed in the same turn', async () => {
  const { network, events, isClosed, publishes } = await openConnection()
  network.publish(MESSAGE, 0, false)
  network.destroy()
  await isClosed
  await new Promise(setImmediate)
  expect(events).toEqual([])
  expect(publishes()).toBe(0)
})
