/**
 * The URL for a Server Reference (MQTT 5 section 4.13): the first of its addresses, in the same way as the server that
 * named it, so that nobody can make the bridge leave TLS.
 * @param from URL of the server that named it
 * @returns undefined where the reference is not an address, or one of another scheme
 */
export function referredUrl(reference: string, from: string): string | undefined {
  const text = reference.trim().split(/[\s,]+/)[0]!
  const url = new URL(from)
  const [, scheme, host] = /^(?:([a-z+]+:)\/\/)?([^/@?#]+)\/?$/.exec(text) ?? []
  if (host === undefined || (scheme !== undefined && scheme !== url.protocol) || url.host === '') return undefined
  const address = `${url.protocol}//${host}`
  if (!/^(\[[0-9a-fA-F:.]+\]|[^\s:[\]]+)(:\d+)?$/.test(host) || !URL.canParse(address)) return undefined
  url.host = new URL(address).host
  url.port = new URL(address).port
  // Setting the same address again would be no other server.
  return url.href === from ? undefined : url.href
}
