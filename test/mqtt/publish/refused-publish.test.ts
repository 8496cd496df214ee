import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { Aedes } from 'aedes'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { type Answer, publish } from '../../support/http.ts'

/**
 * Sends 200 good publishes to many topics at once, and refused ones one after the other until all good ones are
 * answered.
 */
async function besideRefusals(bridge: Bridge): Promise<{ good: Answer[]; refused: Answer[] }> {
  let over = false
  const refused: Answer[] = []
  async function refuse(): Promise<void> {
    while (!over) {
      refused.push(await publish(bridge, { topic: `secret/${refused.length}`, qos: 1 + (refused.length % 2) }))
    }
  }
  const refusals = [refuse(), refuse()]
  const good = await Promise.all(
    Array.from({ length: 200 }, (_, index) =>
      publish(bridge, { topic: `open/${index % 7}`, payload: `${index}`, qos: 1 + (index % 2) }),
    ),
  )
  over = true
  await Promise.all(refusals)
  return { good, refused }
}

function countByStatus(answers: Answer[]): Record<number, number> {
  const counts: Record<number, number> = {}
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1
  return counts
}

describe.runIf(hasMosquitto)('Mosquitto, which refuses a publish and closes the connection', () => {
  const start = async (protocol: string) =>
    startBridge({ MQTT_URL: (await startMosquitto({ acl: ['topic readwrite open/#'] })).url, MQTT_PROTOCOL: protocol })

  test.each([1, 2])('QoS %i answers 403 with the broker’s reason', async (qos) => {
    const bridge = await start('5')
    const { status, body } = await publish(bridge, { topic: 'secret/door', qos })
    expect(status).toBe(403)
    expect(body).toMatchObject({
      code: 'not-authorized',
      retryable: false,
      mqtt: { reasonCode: 135, reason: 'Not authorized' },
    })
  })

  test('the publish after a refused one succeeds, every time', async () => {
    const bridge = await start('5')
    for (let round = 0; round < 20; round += 1) {
      expect((await publish(bridge, { topic: 'secret/door' })).status).toBe(403)
      expect((await publish(bridge, { topic: 'open/door', qos: round % 3 })).status).toBe(round % 3 === 0 ? 202 : 200)
    }
  })

  test('200 good publishes beside a stream of refused ones are all acknowledged', async () => {
    const bridge = await start('5')
    const { good, refused } = await besideRefusals(bridge)
    expect(countByStatus(good)).toEqual({ 200: 200 })
    expect(countByStatus(refused)).toEqual({ 403: refused.length })
    expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
  })

  test('over MQTT 3.1.1, where it acknowledges what it drops, the good ones are acknowledged too', async () => {
    const { good } = await besideRefusals(await start('3.1.1'))
    expect(countByStatus(good)).toEqual({ 200: 200 })
  })
})

describe('a broker that closes the connection instead of answering', () => {
  async function start(): Promise<Bridge> {
    const aedes = await Aedes.createBroker({
      authorizePublish: (_client, { topic }, done) => done(topic.startsWith('secret') ? new Error('refused') : null),
    })
    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      sockets.add(socket)
      aedes.handle(socket)
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(async () => {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
      await new Promise<void>((resolve) => aedes.close(resolve))
    })
    return startBridge({ MQTT_URL: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}` })
  }

  test('the outcome of the refused publish is unknown after two tries, and the next publish succeeds', async () => {
    const bridge = await start()
    const { status, body } = await publish(bridge, { topic: 'secret/door' })
    expect(status).toBe(502)
    expect(body).toMatchObject({ code: 'publish-interrupted', outcome: 'unknown' })
    expect(await publish(bridge, { topic: 'open/door' })).toMatchObject({ status: 200 })
  })

  test('50 good QoS 1 publishes on the same connection are acknowledged', async () => {
    const bridge = await start()
    const [culprit, ...good] = await Promise.all([
      publish(bridge, { topic: 'secret/door' }),
      ...Array.from({ length: 50 }, (_, index) => publish(bridge, { topic: `open/${index}` })),
    ])
    expect(culprit.status).toBe(502)
    expect(countByStatus(good)).toEqual({ 200: 50 })
    expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
  })

  test('several refused publishes among good ones fail, and no good one does', async () => {
    const bridge = await start()
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, index) =>
        publish(bridge, { topic: index % 20 === 7 ? `secret/${index}` : `open/${index}` }),
      ),
    )
    const culprits = answers.filter((_, index) => index % 20 === 7)
    expect(countByStatus(culprits)).toEqual({ 502: 3 })
    expect(countByStatus(answers.filter((answer) => !culprits.includes(answer)))).toEqual({ 200: 57 })
  })
})
