import { expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { publish } from '../../support/http.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'

test.each([
  [1, 'puback'],
  [2, 'pubrec'],
] as const)('an acknowledgement at QoS %i of what was not sent again yet is not taken for one', async (qos, cmd) => {
  const sent: string[] = []
  const broker = await startScriptedBroker((packet, peer) => {
    if (peer.connect?.clientId.includes('-publish-') !== true) return false
    if (packet.cmd === 'connect' && sent.length > 0) {
      peer.accept(true)
      // What is unacknowledged is sent again one at a time, so the second message is not sent yet.
      peer.send({ cmd, messageId: 2, reasonCode: 0 })
      return true
    }
    if (packet.cmd !== 'publish') return false
    sent.push(`${packet.messageId}${packet.dup ? '!' : ''}`)
    // The connection ends before the broker has passed any of them on.
    if (sent.length === 2) peer.close()
    return sent.length <= 2
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1 })
  const answers = await Promise.all(['x', 'y'].map((payload) => publish(bridge, { topic: 'a', payload, qos })))
  expect(answers.map(({ status }) => status)).toEqual([200, 200])
  expect(sent).toEqual(['1', '2', '1!', '2!'])
})
