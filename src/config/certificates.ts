import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { Config } from './config.ts'

/** A certificate and its private key in PEM, checked to belong together. */
export interface CertificatePair {
  cert: string
  key: string
  validTo: Date
  /** The certificate's file, for the log. */
  path: string
}

/**
 * Reads the files of CAUSEWAY_HTTP_CERT_FILE and CAUSEWAY_HTTP_KEY_FILE, again on every call.
 *
 * @returns undefined where HTTPS is not configured
 * @throws Error that names the variable whose file cannot be used
 */
export function readHttpsCertificate(
  { httpCertFile, httpKeyFile }: Config,
  readFile: (path: string) => string,
): CertificatePair | undefined {
  if (httpCertFile === undefined || httpKeyFile === undefined) return undefined
  const certName = `CAUSEWAY_HTTP_CERT_FILE ${httpCertFile}`
  const keyName = `CAUSEWAY_HTTP_KEY_FILE ${httpKeyFile}`
  const cert = readText(certName, () => readFile(httpCertFile))
  const key = readText(keyName, () => readFile(httpKeyFile))
  return { cert, key, validTo: new Date(checkPair(cert, key, certName, keyName).validTo), path: httpCertFile }
}

/**
 * Checks the PEM files for `mqtts:` and `wss:` at start-up. Otherwise a wrong file would make every connection attempt
 * fail.
 *
 * @throws Error that names the variable whose file cannot be used
 */
export function checkBrokerCertificates({ mqttCa, mqttCert, mqttKey }: Config): void {
  // Node silently ignores a CA file that contains no certificate.
  if (mqttCa !== undefined) {
    expecting('CAUSEWAY_MQTT_CA_FILE', 'a certificate in PEM', () => new X509Certificate(mqttCa))
  }
  if (mqttCert !== undefined && mqttKey !== undefined) {
    checkPair(mqttCert, mqttKey, 'CAUSEWAY_MQTT_CERT_FILE', 'CAUSEWAY_MQTT_KEY_FILE')
  }
}

function readText(name: string, read: () => string): string {
  try {
    return read()
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? error
    throw new Error(`${name}: expected a readable file (${why})`, { cause: error })
  }
}

function checkPair(cert: string, key: string, certName: string, keyName: string): X509Certificate {
  const certificate = expecting(certName, 'a certificate in PEM', () => new X509Certificate(cert))
  const privateKey = expecting(keyName, 'a private key in PEM, without a passphrase', () => createPrivateKey(key))
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new Error(`${keyName}: expected the key of the certificate, got a different one`)
  }
  expecting(certName, 'certificates that can be used for TLS', () => createSecureContext({ cert, key }))
  return certificate
}

function expecting<Result>(name: string, expected: string, use: () => Result): Result {
  try {
    return use()
  } catch (error) {
    throw new Error(`${name}: expected ${expected}, got none`, { cause: error })
  }
}
