/** The credentials that a caller sent. */
export type Credentials = { scheme: 'bearer'; token: string } | { scheme: 'basic'; username: string; password: string }

/**
 * Parses an Authorization header (RFC 6750 section 2.1, RFC 7617). Returns undefined for other schemes and for
 * malformed credentials, which counts as no credentials.
 */
export function parseAuthorization(header: string): Credentials | undefined {
  const [, scheme, value] = /^(bearer|basic) +([\w.~+/-]+=*)$/i.exec(header.trim()) ?? []
  if (scheme === undefined) return undefined
  if (scheme.toLowerCase() === 'bearer') return { scheme: 'bearer', token: value! }
  const [, username, password] = /^([^:]*):(.*)$/s.exec(Buffer.from(value!, 'base64').toString()) ?? []
  return username === undefined ? undefined : { scheme: 'basic', username, password: password! }
}
