import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { BaseLogger } from 'pino'
import type { Config } from './config.ts'
import { type Certificate, SecureServer } from '../http/server/secure-server.ts'

export interface CertificatesOptions {
  config: Config
  readFile(path: string): string
  logger: BaseLogger
}

/** What HTTPS is served with. */
export interface Https {
  server: SecureServer
  /** Reads the certificate again; keeps the one it has where that cannot be used, and logs why. */
  reload(): void
}

/**
 * Undefined without a certificate in the configuration.
 * @throws Error that names the variable of the file that cannot be used
 */
export function createHttps({ config: { httpCertFile, httpKeyFile }, readFile, logger }: CertificatesOptions): Https | undefined {
  if (httpCertFile === undefined || httpKeyFile === undefined) return undefined

  function read(): Certificate {
    const cert = text('CAUSEWAY_HTTP_CERT_FILE', httpCertFile!)
    const key = text('CAUSEWAY_HTTP_KEY_FILE', httpKeyFile!)
    const until = new Date(checkPair(cert, key, `CAUSEWAY_HTTP_CERT_FILE ${httpCertFile}`, `CAUSEWAY_HTTP_KEY_FILE ${httpKeyFile}`).validTo)
    if (until < new Date()) logger.warn(`the certificate in ${httpCertFile} has expired: ${until.toISOString()}`)
    else logger.info(`certificate read from ${httpCertFile}; it is valid until ${until.toISOString()}`)
    return { cert, key }
  }

  function text(variable: string, path: string): string {
    try {
      return readFile(path)
    } catch (error) {
      throw new Error(`${variable} ${path}: expected a readable file (${(error as NodeJS.ErrnoException).code ?? error})`, { cause: error })
    }
  }

  const server = new SecureServer(read())
  return {
    server,
    reload() {
      try {
        server.renew(read())
      } catch (error) {
        logger.error(`the certificate stays as it was: ${(error as Error).message}`)
      }
    },
  }
}

/**
 * What every connection to the broker would fail over otherwise.
 * @throws Error that names the variable
 */
export function checkBrokerCertificates({ mqttCa, mqttCert, mqttKey }: Config): void {
  // Node ignores a CA that is none.
  if (mqttCa !== undefined) expecting('CAUSEWAY_MQTT_CA_FILE', 'a certificate in PEM', () => new X509Certificate(mqttCa))
  if (mqttCert !== undefined && mqttKey !== undefined) checkPair(mqttCert, mqttKey, 'CAUSEWAY_MQTT_CERT_FILE', 'CAUSEWAY_MQTT_KEY_FILE')
}

function checkPair(cert: string, key: string, certName: string, keyName: string): X509Certificate {
  const certificate = expecting(certName, 'a certificate in PEM', () => new X509Certificate(cert))
  const privateKey = expecting(keyName, 'a private key in PEM, without a passphrase', () => createPrivateKey(key))
  if (!certificate.checkPrivateKey(privateKey)) throw new Error(`${keyName}: expected the key of the certificate, got another one`)
  expecting(certName, 'certificates that TLS can be spoken with', () => createSecureContext({ cert, key }))
  return certificate
}

function expecting<Result>(name: string, expected: string, use: () => Result): Result {
  try {
    return use()
  } catch (error) {
    throw new Error(`${name}: expected ${expected}, got none`, { cause: error })
  }
}
