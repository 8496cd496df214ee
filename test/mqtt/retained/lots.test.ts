import type { Packet } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { get } from '../../support/http.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'

const LOT = 25
const isRetained = ({ connect }: Peer): boolean => connect?.clientId.endsWith('-retained') === true

// HiveMQ. A read ended in the pause behind the first lot, with 200 and 25 of 50 messages.
test('retained messages that come in lots are read in full, where only a marker ends the pause', async () => {
  let waiting: Packet[] = []
  const lot = (first: number) =>
    Array.from({ length: LOT }, (_, index): Packet => {
      const id = first + index
      return { cmd: 'publish', topic: `a/${id}`, payload: `${id}`, qos: 1, retain: true, dup: false, messageId: id }
    })
  const broker = await startScriptedBroker(
    (packet, peer) => {
      if (packet.cmd !== 'subscribe' || packet.subscriptions[0]!.topic !== 'a/#') return false
      peer.send({ cmd: 'suback', messageId: packet.messageId!, granted: [1] }, ...lot(1))
      waiting = lot(LOT + 1)
      return true
    },
    { lateRetained: 5, onMarker: (from) => isRetained(from) && from.send(...waiting.splice(0)) },
  )
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const { status, body } = await get(bridge, '/retained?topic=a/%23')
  expect({ status, count: body.length }).toEqual({ status: 200, count: 2 * LOT })
})
