import { expect, onTestFinished, test } from 'vitest'
import { MemoryAccount } from '../../../src/memory/account.ts'
import { Broker } from '../../../src/mqtt/connection/broker.ts'
import type { Learnt } from '../../../src/mqtt/connection/learnt.ts'
import { EMBEDDED_LEARNT, startEmbeddedBroker } from '../../../src/mqtt/embedded/embedded-broker.ts'
import { learnBroker } from '../../../src/mqtt/learn-broker.ts'

const newBroker = (url: string): Broker =>
  new Broker({
    servers: [{ url, username: undefined, password: undefined }],
    protocol: 'auto',
    endpoint: () => ({ keepaliveS: 30, connectTimeoutMs: 5000, maxPacketBytes: 1_000_000 }),
  })

/** Trials of the order, whose outcomes come as they are given. */
function setUp() {
  const broker = newBroker('mqtt://one')
  const trials: { resolve: (order: Learnt['order']) => void; reject: (error: Error) => void }[] = []
  const learn = (): Promise<void> =>
    broker.learn('order', () => new Promise((resolve, reject) => trials.push({ resolve, reject })))
  return { broker, trials, learn }
}

test('however many connections want to know something, one of them tries it, once', async () => {
  const { broker, trials, learn } = setUp()
  const all = Promise.all([learn(), learn(), learn()])
  trials[0]!.resolve('mixed')
  await all
  await learn()
  expect(trials).toHaveLength(1)
  expect(broker.learnt).toEqual({ order: 'mixed' })
})

test('a trial that shows nothing is not made again for now, and one that was cut off is', async () => {
  const { broker, trials, learn } = setUp()
  const cutOff = learn()
  trials[0]!.reject(new Error('lost'))
  await cutOff
  const showsNothing = learn()
  trials[1]!.resolve(undefined)
  await showsNothing
  await learn()
  expect(trials).toHaveLength(2)
  expect(broker.learnt).toEqual({})
})

test('the embedded broker does what is taken for known about it', async () => {
  const memory = new MemoryAccount({ totalBytes: 64 * 1024 * 1024 })
  const embedded = await startEmbeddedBroker({ port: 0, maxPacketBytes: 1_000_000, memory })
  onTestFinished(() => embedded.close())
  const broker = newBroker(embedded.url)
  await learnBroker({
    broker,
    clientId: 'causeway-test',
    markerTopic: 'causeway/marker',
    timeoutMs: 10_000,
    sharedOver311: false,
  })
  expect(broker.learnt).toMatchObject(EMBEDDED_LEARNT)
})
