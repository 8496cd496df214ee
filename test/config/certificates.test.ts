import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Settings, startBridge } from '../support/bridge.ts'
import { type Authority, type CertificateFiles, createAuthority, hasOpenssl } from '../support/certificates.ts'

let authority: Authority
let one: CertificateFiles
let other: CertificateFiles
let broken: string

describe.skipIf(!hasOpenssl)('the bridge does not start', () => {
  beforeAll(() => {
    authority = createAuthority()
    one = authority.issue('one')
    other = authority.issue('other')
    broken = join(one.cert, '../broken.pem')
    writeFileSync(broken, '-----BEGIN CERTIFICATE-----\nhalf a')
  })
  afterAll(() => authority.remove())

  const http = (): Settings => ({ HTTP_CERT_FILE: one.cert, HTTP_KEY_FILE: one.key })
  const mqtt = (): Settings => ({
    MQTT_URL: 'mqtts://127.0.0.1:1',
    MQTT_CA_FILE: authority.caFile,
    MQTT_CERT_FILE: one.cert,
    MQTT_KEY_FILE: one.key,
  })

  test.each<[string, () => Settings, () => string]>([
    [
      'a certificate that is not there',
      () => ({ ...http(), HTTP_CERT_FILE: '/none' }),
      () => 'CAUSEWAY_HTTP_CERT_FILE /none: expected a readable file (ENOENT)',
    ],
    [
      'a certificate that is none',
      () => ({ ...http(), HTTP_CERT_FILE: broken }),
      () => `CAUSEWAY_HTTP_CERT_FILE ${broken}: expected a certificate in PEM, got none`,
    ],
    [
      'a key that is none',
      () => ({ ...http(), HTTP_KEY_FILE: one.cert }),
      () => `CAUSEWAY_HTTP_KEY_FILE ${one.cert}: expected a private key in PEM, without a passphrase, got none`,
    ],
    [
      'the key of another certificate',
      () => ({ ...http(), HTTP_KEY_FILE: other.key }),
      () => `CAUSEWAY_HTTP_KEY_FILE ${other.key}: expected the key of the certificate, got a different one`,
    ],
    [
      'a CA for the broker that is none',
      () => ({ ...mqtt(), MQTT_CA_FILE: one.key }),
      () => `CAUSEWAY_MQTT_CA_FILE ${one.key}: expected a certificate in PEM, got none`,
    ],
    [
      'a client certificate that is none',
      () => ({ ...mqtt(), MQTT_CERT_FILE: broken }),
      () => `CAUSEWAY_MQTT_CERT_FILE ${broken}: expected a certificate in PEM, got none`,
    ],
    [
      'the key of another client certificate',
      () => ({ ...mqtt(), MQTT_KEY_FILE: other.key }),
      () => `CAUSEWAY_MQTT_KEY_FILE ${other.key}: expected the key of the certificate, got a different one`,
    ],
  ])('with %s', async (_what, settings, fault) => {
    await expect(startBridge(settings())).rejects.toThrow(fault())
  })
})

test.skipIf(!hasOpenssl)('a certificate that has expired is served all the same, with a warning', async () => {
  const some = createAuthority()
  const { cert, key } = some.issue('expired', { expired: true })
  const bridge = await startBridge({ HTTP_CERT_FILE: cert, HTTP_KEY_FILE: key })
  some.remove()
  expect(bridge.url).toMatch(/^https:/)
  const warnings = bridge.logs.filter(({ level }) => level === 40).map(({ msg }) => msg)
  expect(warnings).toContainEqual(expect.stringContaining(`the certificate in ${cert} has expired`))
})
