import type { IncomingMessage } from 'node:http'

/**
 * What is wrong with the Host header, or undefined. A request must have exactly one (RFC 9112 section 3.2); HTTP/1.0
 * may have none. HTTP/2 has `:authority` instead, and a Host beside it must be the same (RFC 9113 section 8.3.1).
 */
export function hostFault({ httpVersion, headers, rawHeaders }: IncomingMessage): string | undefined {
  if (httpVersion === '2.0') {
    const authority = headers[':authority']
    const isSame = authority === undefined || headers.host === undefined || headers.host === authority
    return isSame ? undefined : 'The request has a Host header that differs from :authority'
  }
  if (httpVersion === '0.9') return 'The request line has no HTTP version'
  let count = 0
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]!.length === 4 && rawHeaders[index]!.toLowerCase() === 'host') count += 1
  }
  if (count > 1) return 'The request has more than one Host header'
  return count === 1 || httpVersion === '1.0' ? undefined : 'The request has no Host header'
}
