import { expect, test } from 'vitest'
import { NetworkConnection, SessionState } from '../../../src/mqtt/client/network-connection.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'

const MESSAGE = { topic: 'a', payload: Buffer.from('x'), qos: 0 as const, retain: false }

/** A connection that was accepted, and what it has told since. */
async function openConnection() {
  const broker = await startScriptedBroker(() => {})
  const told: string[] = []
  let opened!: () => void
  let closed!: () => void
  const [isOpen, isClosed] = [
    new Promise<void>((resolve) => (opened = resolve)),
    new Promise<void>((resolve) => (closed = resolve)),
  ]
  const network = new NetworkConnection(
    {
      endpoint: { url: broker.url, keepaliveS: 30 },
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
      flushed: () => void told.push('flushed'),
      drained: () => {},
    },
  )
  await isOpen
  const publishes = () => broker.peers[0]!.received.filter(({ cmd }) => cmd === 'publish').length
  return { network, told, isClosed, publishes }
}

test('what is published is flushed with the end of the turn', async () => {
  const { network, told, isClosed, publishes } = await openConnection()
  network.publish(MESSAGE, 0, false)
  network.publish(MESSAGE, 0, false)
  expect(told).toEqual([])
  await new Promise(setImmediate)
  expect(told).toEqual(['flushed'])
  await expect.poll(publishes).toBe(2)
  network.destroy()
  await isClosed
})

test('what a connection that breaks in the same turn was given does not pass for flushed', async () => {
  const { network, told, isClosed, publishes } = await openConnection()
  network.publish(MESSAGE, 0, false)
  network.destroy()
  await isClosed
  await new Promise(setImmediate)
  expect(told).toEqual([])
  expect(publishes()).toBe(0)
})
