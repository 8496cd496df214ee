import { readFileSync } from 'node:fs'
import { onTestFinished } from 'vitest'
import { type Bridge, type Settings, startBridge } from './bridge.ts'
import { type Authority, createAuthority } from './certificates.ts'

export interface SecureBridge extends Bridge {
  authority: Authority
  /** The certificate to trust, as PEM. */
  ca: string
  files: { cert: string; key: string }
}

/**
 * A bridge with HTTPS, and with metrics and health over plain HTTP on a port of their own. The bridge and its
 * certificate authority end with the test.
 */
export async function startSecureBridge(settings: Settings = {}): Promise<SecureBridge> {
  const authority = createAuthority()
  onTestFinished(() => authority.remove())
  const files = authority.issue('bridge')
  const bridge = await startBridge({ HTTP_CERT_FILE: files.cert, HTTP_KEY_FILE: files.key, ADMIN_PORT: 0, ...settings })
  return Object.assign(bridge, { authority, ca: readFileSync(authority.caFile, 'utf8'), files })
}
