import { copyFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Bridge, metric, type Settings, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { type Authority, type CertificateFiles, createAuthority, hasOpenssl } from '../../support/certificates.ts'
import { send } from '../../support/http.ts'
import { openStream } from '../../support/stream.ts'
import { startWebSockets } from '../../support/websockets.ts'

let authority: Authority
let other: Authority
let server: CertificateFiles
let named: CertificateFiles
let expired: CertificateFiles
let client: CertificateFiles

/** @param more lines of its configuration, for example about client certificates */
function startBroker({ cert, key }: CertificateFiles, ...more: string[]) {
  return startMosquitto({ config: [`cafile ${authority.caFile}`, `certfile ${cert}`, `keyfile ${key}`, ...more] })
}

const ownCertificate = ({ cert, key }: CertificateFiles): Settings => ({ MQTT_CERT_FILE: cert, MQTT_KEY_FILE: key })

/** Publishes, opens a stream and opens a session, so that each kind of connection is made. */
async function expectItWorks(settings: Settings): Promise<void> {
  const bridge = await startBridge(settings)
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
  const session = await openStream(`${bridge.url}/subscribe?topic=a&session=one`)
  expect([stream.status, session.status]).toEqual([200, 200])
  expect((await send(bridge, 'POST', '/publish?topic=a', {}, 'x')).status).toBe(200)
  expect((await stream.next()).data.payload).toBe('x')
  expect((await session.take(2))[1]!.data.payload).toBe('x')
}

/** Expects that the bridge starts, reports why it cannot connect to its broker, and keeps trying. */
async function expectRefused(settings: Settings, why: string): Promise<Bridge> {
  const bridge = await startBridge({ ...settings, PUBLISH_CONNECTIONS: 1 }, { waitForBroker: false })
  const warning = () =>
    bridge.logs.find(({ msg }) => String(msg).endsWith(' cannot be reached; trying again until it can'))
  await expect
    .poll(warning)
    .toMatchObject({ reason: expect.stringContaining(`There is no connection to the broker: ${why}`) })
  expect(await send(bridge, 'GET', '/readyz')).toMatchObject({ status: 503, body: { code: 'broker-unavailable' } })
  expect(await send(bridge, 'POST', '/publish?topic=a', {}, 'x')).toMatchObject({
    status: 503,
    body: { detail: expect.stringContaining(why) },
  })
  expect(JSON.stringify(bridge.logs)).not.toContain('PRIVATE KEY')
  expect(await metric(bridge, 'causeway_mqtt_connections{role="publish",state="connected"}')).toBe(0)
  return bridge
}

describe.skipIf(!hasMosquitto || !hasOpenssl)('over TLS', () => {
  beforeAll(() => {
    authority = createAuthority()
    other = createAuthority()
    server = authority.issue('server')
    named = authority.issue('named', { names: 'DNS:broker.example' })
    expired = authority.issue('expired', { expired: true })
    client = authority.issue('client')
  })
  afterAll(() => {
    authority.remove()
    other.remove()
  })

  test('the broker’s certificate is verified, and the bridge shows its own', async () => {
    const { port } = await startBroker(server, 'require_certificate true')
    await expectItWorks({
      MQTT_URL: `mqtts://localhost:${port}`,
      MQTT_CA_FILE: authority.caFile,
      ...ownCertificate(client),
    })
  })

  test('a broker that requires a client certificate, or another one, is reported as that', async () => {
    const { port } = await startBroker(server, 'require_certificate true')
    const settings = { MQTT_URL: `mqtts://127.0.0.1:${port}`, MQTT_CA_FILE: authority.caFile }
    await expectRefused(settings, 'it requires a client certificate (ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED)')
    await expectRefused(
      { ...settings, ...ownCertificate(other.issue('client')) },
      'it does not accept the client certificate (ERR_SSL_TLSV1_ALERT_UNKNOWN_CA)',
    )
  })

  test('a broker whose certificate no trusted authority has signed is not connected to', async () => {
    const { port } = await startBroker(server)
    const url = `mqtts://localhost:${port}`
    await expectRefused({ MQTT_URL: url }, 'no trusted authority has signed its certificate')
    await expectRefused(
      { MQTT_URL: url, MQTT_CA_FILE: other.caFile },
      'no trusted authority has signed its certificate',
    )
  })

  test('a broker with a certificate for another name is connected to only if that name is configured', async () => {
    const { port } = await startBroker(named)
    const settings = { MQTT_URL: `mqtts://localhost:${port}`, MQTT_CA_FILE: authority.caFile }
    await expectRefused(settings, 'its certificate is for another name (ERR_TLS_CERT_ALTNAME_INVALID)')
    await expectItWorks({ ...settings, MQTT_SERVER_NAME: 'broker.example' })
  })

  test('a broker whose certificate has expired is connected to once it has a valid one', async () => {
    const broker = await startBroker(expired)
    const bridge = await expectRefused(
      { MQTT_URL: `mqtts://localhost:${broker.port}`, MQTT_CA_FILE: authority.caFile },
      'its certificate has expired (CERT_HAS_EXPIRED)',
    )
    await broker.stop()
    copyFileSync(server.cert, expired.cert)
    copyFileSync(server.key, expired.key)
    await broker.start()
    await expect.poll(() => bridge.isReachable(), { timeout: 15_000 }).toBe(true)
    expect((await send(bridge, 'POST', '/publish?topic=a', {}, 'x')).status).toBe(200)
  })

  test('files that were replaced are used after SIGHUP, and bad ones are not', async () => {
    const { port } = await startBroker(server, 'require_certificate true')
    const own = other.issue('replaced')
    const bridge = await expectRefused(
      { MQTT_URL: `mqtts://127.0.0.1:${port}`, MQTT_CA_FILE: authority.caFile, ...ownCertificate(own) },
      'it does not accept the client certificate',
    )
    copyFileSync(client.cert, own.cert)
    bridge.reload()
    expect(bridge.logs.map(({ msg }) => msg)).toContain(
      `CAUSEWAY_MQTT_KEY_FILE ${own.key}: expected the key of the certificate, got a different one; the files read ` +
        'before stay in use',
    )
    copyFileSync(client.key, own.key)
    bridge.reload()
    await expect.poll(() => bridge.isReachable(), { timeout: 20_000 }).toBe(true)
  })

  test('the same is checked over WebSockets', async () => {
    const { port: brokerPort } = await startMosquitto()
    const { port } = await startWebSockets(brokerPort, named)
    const settings = { MQTT_URL: `wss://localhost:${port}/mqtt`, MQTT_CA_FILE: authority.caFile }
    await expectItWorks({ ...settings, MQTT_SERVER_NAME: 'broker.example' })
    await expectRefused(settings, 'its certificate is for another name (ERR_TLS_CERT_ALTNAME_INVALID)')
    await expectRefused(
      { MQTT_URL: settings.MQTT_URL, MQTT_SERVER_NAME: 'broker.example' },
      'no trusted authority has signed its certificate',
    )
  })

  test('callers with accounts of their own connect over TLS too', async () => {
    const { port } = await startBroker(server)
    const bridge = await startBridge({
      MQTT_URL: `mqtts://localhost:${port}`,
      MQTT_CA_FILE: authority.caFile,
      AUTH: 'broker',
    })
    expect(
      (await send(bridge, 'POST', '/publish?topic=a', { authorization: `Basic ${btoa('ann:good')}` }, 'x')).status,
    ).toBe(200)
  })
})
