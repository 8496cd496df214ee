/** What is wrong when TLS with the broker fails, by the error codes of Node and OpenSSL. */
const FAULTS: Record<string, string[]> = {
  'no trusted authority has signed its certificate': [
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'UNABLE_TO_GET_ISSUER_CERT',
    'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
    'SELF_SIGNED_CERT_IN_CHAIN',
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'CERT_UNTRUSTED',
    'CERT_SIGNATURE_FAILURE',
  ],
  'its certificate is for another name': ['ERR_TLS_CERT_ALTNAME_INVALID'],
  'its certificate has expired': ['CERT_HAS_EXPIRED'],
  'its certificate is not valid yet': ['CERT_NOT_YET_VALID'],
  'it requires a client certificate': [
    'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
    'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE',
  ],
  'it does not accept the client certificate': [
    'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA',
    'ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE',
    'ERR_SSL_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE',
    'ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED',
    'ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED',
    'ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN',
    'ERR_SSL_TLSV1_ALERT_ACCESS_DENIED',
    'ERR_SSL_TLSV1_ALERT_DECRYPT_ERROR',
  ],
  'it does not speak TLS on this port': ['ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG'],
}

/** What is wrong, in words; undefined if the code is not one of TLS. */
export function tlsFault(code: string): string | undefined {
  return Object.keys(FAULTS).find((fault) => FAULTS[fault]!.includes(code))
}
