import type { IncomingMessage } from 'node:http'

/** Why a request does not say once for which host it is (RFC 9112 section 3.2), or undefined where it does. HTTP/1.0 need not. */
export function hostFault({ httpVersion, rawHeaders }: IncomingMessage): string | undefined {
  if (httpVersion === '2.0') return undefined
  if (httpVersion === '0.9') return 'The request does not say which version of HTTP it is'
  let count = 0
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]!.length === 4 && rawHeaders[index]!.toLowerCase() === 'host') count += 1
  }
  if (count > 1) return 'The request has more than one Host header'
  return count === 1 || httpVersion === '1.0' ? undefined : 'The request has no Host header'
}
