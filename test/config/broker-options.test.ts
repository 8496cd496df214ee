import { expect, test } from 'vitest'
import { loadConfig } from '../../src/config/config.ts'
import { brokerOptions } from '../../src/config/broker-options.ts'

const URL = 'mqtts://bridge:secret@broker.example'
const config = loadConfig(
  {
    CAUSEWAY_MQTT_URL: URL,
    CAUSEWAY_MQTT_CA_FILE: 'ca',
    CAUSEWAY_MQTT_CERT_FILE: 'cert',
    CAUSEWAY_MQTT_KEY_FILE: 'key',
  },
  (path) => `PEM of ${path}`,
)

test('the bridge connects with all it has', () => {
  expect(brokerOptions(config, URL).endpoint).toMatchObject({
    url: 'mqtts://broker.example',
    username: 'bridge',
    password: 'secret',
    ca: 'PEM of ca',
    cert: 'PEM of cert',
    key: 'PEM of key',
  })
})

test('for a caller it shows nothing that is its own', () => {
  const { endpoint } = brokerOptions(config, URL, { username: 'ann', password: 'good' })
  expect(endpoint).toMatchObject({ url: 'mqtts://broker.example', username: 'ann', password: 'good', ca: 'PEM of ca' })
  expect([endpoint.cert, endpoint.key]).toEqual([undefined, undefined])
})
