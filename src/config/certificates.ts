import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { Config } from './config.ts'
import { parseHeaderLines } from './header-lines.ts'

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
 * Reads the file of CAUSEWAY_PUSH_CA_FILE, again on every call.
 *
 * @returns undefined where it is not configured
 * @throws Error that names the variable whose file cannot be used
 */
export function readPushCa({ pushCaFile }: Config, readFile: (path: string) => string): string | undefined {
  return pushCaFile === undefined
    ? undefined
    : readCa(`CAUSEWAY_PUSH_CA_FILE ${pushCaFile}`, () => readFile(pushCaFile))
}

/** What the files for connections to the broker contain. */
export interface BrokerFiles {
  ca?: string
  cert?: string
  key?: string
  /** Headers of the WebSocket upgrade. */
  headers?: Record<string, string>
}

/**
 * Reads the files of CAUSEWAY_MQTT_CA_FILE, `_CERT_FILE`, `_KEY_FILE` and `_WS_HEADERS_FILE`, again on every call, and
 * checks them. Otherwise a wrong file would make every attempt to connect fail.
 *
 * @throws Error that names the variable whose file cannot be used
 */
export function readBrokerFiles(
  { mqttCaFile, mqttCertFile, mqttKeyFile, mqttWsHeadersFile }: Config,
  readFile: (path: string) => string,
): BrokerFiles {
  const files: BrokerFiles = {}
  if (mqttCaFile !== undefined) {
    const name = `CAUSEWAY_MQTT_CA_FILE ${mqttCaFile}`
    files.ca = readCa(name, () => readFile(mqttCaFile))
  }
  if (mqttCertFile !== undefined && mqttKeyFile !== undefined) {
    const certName = `CAUSEWAY_MQTT_CERT_FILE ${mqttCertFile}`
    const keyName = `CAUSEWAY_MQTT_KEY_FILE ${mqttKeyFile}`
    files.cert = readText(certName, () => readFile(mqttCertFile))
    files.key = readText(keyName, () => readFile(mqttKeyFile))
    checkPair(files.cert, files.key, certName, keyName)
  }
  if (mqttWsHeadersFile !== undefined) {
    const name = `CAUSEWAY_MQTT_WS_HEADERS_FILE ${mqttWsHeadersFile}`
    const text = readText(name, () => readFile(mqttWsHeadersFile))
    try {
      files.headers = parseHeaderLines(text, { names: UPGRADE_HEADER, why: 'of the upgrade itself' })
    } catch (error) {
      throw new Error(`${name}: ${(error as Error).message}`, { cause: error })
    }
  }
  return files
}

/** Headers that the upgrade itself needs, and sets. */
const UPGRADE_HEADER = /^(host|connection|upgrade|content-length|transfer-encoding|sec-websocket-.*)$/i

function readCa(name: string, read: () => string): string {
  const ca = readText(name, read)
  // Node silently ignores a CA file that contains no certificate.
  expecting(name, 'a certificate in PEM', () => new X509Certificate(ca))
  return ca
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
