import { expect, test } from 'vitest'
import { brokerOptions } from '../../src/config/broker-options.ts'
import { loadConfig } from '../../src/config/config.ts'
import { Broker } from '../../src/mqtt/connection/broker.ts'

const URLS = 'mqtts://bridge:sec,ret@broker.example,wss://other.example/mqtt'
const config = loadConfig({ CAUSEWAY_MQTT_URL: URLS, CAUSEWAY_MQTT_MAX_PACKET_BYTES: '2048' }, String)
let files = { ca: 'ca', cert: 'cert', key: 'key' }
const options = brokerOptions(config, URLS, () => files)
const broker = new Broker(options)

test('each address has the credentials of its URL', () => {
  expect(options.servers).toEqual([
    { url: 'mqtts://broker.example', username: 'bridge', password: 'sec,ret' },
    { url: 'wss://other.example/mqtt', username: undefined, password: undefined },
  ])
})

test('the bridge connects with all it has, and with files as they are then', () => {
  expect(broker.target(undefined).endpoint).toMatchObject({
    url: 'mqtts://broker.example',
    username: 'bridge',
    password: 'sec,ret',
    maxPacketBytes: 2048,
    ...files,
  })
  files = { ca: 'new ca', cert: 'new cert', key: 'new key' }
  expect(broker.target(undefined).endpoint).toMatchObject(files)
})

test('for a caller it shows nothing that is its own', () => {
  const { endpoint } = broker.target({ username: 'ann', password: 'good' })
  expect(endpoint).toMatchObject({ url: 'mqtts://broker.example', username: 'ann', password: 'good', ca: files.ca })
  expect([endpoint.cert, endpoint.key]).toEqual([undefined, undefined])
})
