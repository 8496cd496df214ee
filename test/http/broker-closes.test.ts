import { expect, test } from 'vitest'
import { basic } from '../support/accounts.ts'
import { startBridge } from '../support/bridge.ts'
import { publish } from '../support/http.ts'
import { startScriptedBroker } from '../support/scripted-broker.ts'

// rumqttd: no CONNACK says that the password is wrong.
test('where the broker closes the connection over a wrong password, that is said, and guesses are limited', async () => {
  let tried = 0
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect' || packet.username === undefined) return false
    if (packet.password?.toString() === 'right') return false
    tried += 1
    peer.close()
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, AUTH: 'broker', AUTH_REFUSED_MAX: 2 })
  const message = { topic: 'a', payload: 'x' }
  const first = await publish(bridge, message, basic('ann', 'wrong'))
  expect(first).toMatchObject({ status: 503, body: { code: 'broker-unavailable' } })
  expect(first.body.detail).toContain('closed the connection without an answer, as some brokers do over credentials')
  const before = tried
  expect((await publish(bridge, message, basic('ann', 'wrong'))).status).toBe(503)
  expect(tried).toBe(before)
  expect((await publish(bridge, message, basic('ann', 'worse'))).status).toBe(503)
  expect((await publish(bridge, message, basic('ann', 'a guess'))).body.code).toBe('too-many-attempts')
})
