import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Whether openssl is installed, which makes the certificates. In CI it must be. */
export const hasOpenssl = spawnSync('openssl', ['version']).error === undefined
if (!hasOpenssl && process.env['CAUSEWAY_TEST_REQUIRE_MOSQUITTO']) {
  throw new Error('openssl is required and not installed')
}

/** Paths of PEM files. */
export interface CertificateFiles {
  cert: string
  key: string
}

export interface CertificateOptions {
  /** The subject's alternative names as openssl writes them. Default: `DNS:localhost,IP:127.0.0.1`. */
  names?: string
  /** Issues a certificate that has already expired. */
  expired?: boolean
}

export interface Authority {
  /** The certificate to trust, as PEM. */
  ca: string
  /** The file of `ca`. */
  caFile: string
  /** Issues a certificate with a key of its own. `name` is its subject and part of its file names. */
  issue(name: string, options?: CertificateOptions): CertificateFiles
  /** Deletes all files. */
  remove(): void
}

/** A certificate authority in a temporary directory. No system trusts it. */
export function createAuthority(): Authority {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-certificates-'))
  const filesOf = (name: string): CertificateFiles => ({
    cert: join(directory, `${name}.pem`),
    key: join(directory, `${name}.key`),
  })
  const authority = filesOf('authority')
  const openssl = (...words: string[]) => execFileSync('openssl', words, { stdio: 'pipe' })
  const newKey = ({ key }: CertificateFiles) => [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-keyout',
    key,
  ]
  openssl('req', '-x509', ...newKey(authority), '-out', authority.cert, '-subj', '/CN=Test authority', '-days', '2')
  return {
    ca: readFileSync(authority.cert, 'utf8'),
    caFile: authority.cert,
    issue(name, { names = 'DNS:localhost,IP:127.0.0.1', expired = false } = {}) {
      const files = filesOf(name)
      const request = join(directory, `${name}.csr`)
      openssl(
        'req',
        '-new',
        ...newKey(files),
        '-out',
        request,
        '-subj',
        `/CN=${name}`,
        '-addext',
        `subjectAltName=${names}`,
      )
      openssl(
        'x509',
        '-req',
        '-in',
        request,
        '-out',
        files.cert,
        '-CA',
        authority.cert,
        '-CAkey',
        authority.key,
        '-CAcreateserial',
        '-copy_extensions',
        'copyall',
        '-days',
        expired ? '-1' : '1',
      )
      return files
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  }
}
