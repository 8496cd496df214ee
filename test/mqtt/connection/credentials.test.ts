import { expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'

test('user and password in the URL are decoded and sent to the broker', async () => {
  const broker = await startScriptedBroker(() => {})
  await startBridge({ MQTT_URL: broker.url.replace('//', '//us%40er:p%3Aa%3As@') })
  const [peer] = broker.peers
  expect([peer!.connect?.username, peer!.connect?.password?.toString()]).toEqual(['us@er', 'p:a:s'])
})
