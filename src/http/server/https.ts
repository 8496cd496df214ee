import type { BaseLogger } from 'pino'
import { type Certificate, SecureServer } from './secure-server.ts'

/** A certificate, when it ends, and the file it came from. */
export interface ReadCertificate extends Certificate {
  validTo: Date
  path: string
}

export interface HttpsOptions {
  /**
   * Reads the certificate from its files. Undefined where HTTPS is not configured.
   * @throws Error that says which file cannot be used
   */
  readCertificate(): ReadCertificate | undefined
  logger: BaseLogger
}

/** The HTTPS listener, and how its certificate is renewed. */
export interface Https {
  server: SecureServer
  /** Reads the certificate again. Where it cannot be used, logs why and keeps the one in use. */
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

  function logValidity({ path, validTo }: ReadCertificate): void {
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
        logger.error(`the certificate stays as it was: ${(error as Error).message}`)
      }
    },
  }
}
