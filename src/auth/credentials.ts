/** What a caller shows of itself. */
export type Credentials = { scheme: 'bearer'; token: string } | { scheme: 'basic'; username: string; password: string }

/** The credentials of an Authorization field (RFC 6750 section 2.1, RFC 7617), or undefined where it holds none of these. */
export function parseAuthorization(field: string): Credentials | undefined {
  const [, scheme, value] = /^(bearer|basic) +([\w.~+/-]+=*)$/i.exec(field.trim()) ?? []
  if (scheme === undefined) return undefined
  if (scheme.toLowerCase() === 'bearer') return { scheme: 'bearer', token: value! }
  const [, username, password] = /^([^:]*):(.*)$/s.exec(Buffer.from(value!, 'base64').toString()) ?? []
  return username === undefined ? undefined : { scheme: 'basic', username, password: password! }
}
