import { copyFileSync } from 'node:fs'
import { connect, type PeerCertificate } from 'node:tls'
import { once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { createAuthority, hasOpenssl } from '../support/certificates.ts'

test.skipIf(!hasOpenssl)('SIGHUP reads the certificate again, and the first log lines say https', async () => {
  const authority = createAuthority()
  onTestFinished(() => authority.remove())
  const [one, next] = [authority.issue('one'), authority.issue('next')]
  const bridge = spawnBridge({ HTTP_CERT_FILE: one.cert, HTTP_KEY_FILE: one.key, ADMIN_PORT: 0 })
  await bridge.url
  const port = Number(/publish: .*'https:\/\/127\.0\.0\.1:(\d+)\/publish/.exec(bridge.stdout())![1])
  async function peer(): Promise<PeerCertificate> {
    const socket = connect({ host: '127.0.0.1', port, ca: authority.ca })
    await once(socket, 'secureConnect')
    const certificate = socket.getPeerCertificate()
    socket.destroy()
    return certificate
  }
  const name = async () => (await peer()).subject?.CN
  expect(await name()).toBe('one')
  copyFileSync(next.cert, one.cert)
  copyFileSync(next.key, one.key)
  bridge.kill('SIGHUP')
  await expect.poll(name).toBe('next')
  bridge.kill('SIGTERM')
  expect(await bridge.exited).toEqual({ code: 0, signal: null })
})
