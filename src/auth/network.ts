/**
 * What belongs to one subscriber of an address's provider: the address, or of IPv6 its first 64 bits, behind which
 * anyone has more addresses than can be counted.
 * @param address as Node writes it; it has none of a connection that is gone
 */
export function networkOf(address: string | undefined): string {
  if (address === undefined) return ''
  const [, ipv4] = /^(?:::ffff:)?(\d+\.\d+\.\d+\.\d+)$/i.exec(address) ?? []
  if (ipv4 !== undefined) return ipv4
  const [head = '', tail] = address.split('%', 1)[0]!.split('::')
  const groups = head === '' ? [] : head.split(':')
  const rest = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : 8 - groups.length - rest.length
  return `${[...groups, ...Array.from({ length: zeros }, () => '0'), ...rest].slice(0, 4).join(':')}::/64`
}
