import { createPrivateKey, X509Certificate } from 'node:crypto'
import { validateHeaderName, validateHeaderValue } from 'node:http'
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
    const ca = (files.ca = readText(name, () => readFile(mqttCaFile)))
    // Node silently ignores a CA file that contains no certificate.
    expecting(name, 'a certificate in PEM', () => new X509Certificate(ca))
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
    files.headers = headersIn(
      name,
      readText(name, () => readFile(mqttWsHeadersFile)),
    )
  }
  return files
}

/** Headers that the upgrade itself needs, and sets. */
const UPGRADE_HEADER = /^(host|connection|upgrade|content-length|transfer-encoding|sec-websocket-.*)$/i

/** The headers of lines like `Name: value`. Errors contain the line's number only: it may be a secret. */
function headersIn(name: string, text: string): Record<string, string> {
  const headers = new Map<string, string>()
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '') continue
    const [, header, value] = /^([^:\s]+):(.*)$/.exec(line) ?? []
    try {
      validateHeaderName(header!)
      validateHeaderValue(header!, value!.trim())
    } catch (error) {
      throw new Error(`${name}: expected a header as Name: value in line ${index + 1}, got none`, { cause: error })
    }
    if (UPGRADE_HEADER.test(header!)) {
      throw new Error(`${name}: expected no header of the upgrade itself, got ${header} in line ${index + 1}`)
    }
    headers.set(header!, value!.trim())
  }
  return Object.fromEntries(headers)
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
