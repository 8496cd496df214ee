import type { BaseLogger } from 'pino'
import { type Certificate, SecureServer } from './secure-server.ts'

export interface LoadedCertificate extends Certificate {
  /** When it expires. */
  validTo: Date
  /** The file it was read from. */
  path: string
}

export interface HttpsOptions {
  /**
   * Reads the certificate from its files.
   * @returns undefined where HTTPS is not configured
   * @throws Error that names the file that cannot be used
   */
  readCertificate(): LoadedCertificate | undefined
  logger: BaseLogger
}

export interface Https {
  server: SecureServer
  /** Reads the certificate again. One that cannot be used is logged, and the current one stays. */
  reload(): void
}

/**
 * @returns undefined where HTTPS is not configured
 * @throws what `readCertificate` throws
 */
export function createHttps({ readCertificate, logger }: HttpsOptions): Https | undefined {
  const first = readCertificate()
  if (first === undefined) return undefined
  logValidity(first)
  const server = new SecureServer(first)

  function logValidity({ path, validTo }: LoadedCertificate): void {
    const end = validTo.toISOString()
    if (validTo < new Date()) logger.warn(`the certificate in ${path} has expired: ${end}`)
    else logger.info(`certificate read from ${path}; it is valid until ${end}`)
  }

  return {
    server,
    reload() {
      try {
        const certificate = readCertificate()!
        logValidity(certificate)
        server.renew(certificate)
      } catch (error) {
        logger.error(`certificate not reloaded, the current one stays in use: ${(error as Error).message}`)
      }
    },
  }
}
