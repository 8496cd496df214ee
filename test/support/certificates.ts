import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Whether the tests that need certificates can run; in CI they must. */
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
  /** As openssl writes them; names of this machine unless given. */
  names?: string
  /** Already, as it is made. */
  expired?: boolean
}

export interface Authority {
  /** What to trust, as PEM and where it is. */
  ca: string
  caFile: string
  /** Further ones of the same authority, each with a key of its own. */
  issue(name: string, options?: CertificateOptions): CertificateFiles
  remove(): void
}

/** A certificate authority in a directory of its own, as real as any and trusted by nobody. */
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
