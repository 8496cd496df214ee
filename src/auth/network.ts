/**
 * The network whose addresses count as one caller: an IPv4 address itself, or the /64 network of an IPv6 address, as
 * each customer of a provider has at least that many IPv6 addresses.
 * @param address as Node writes it; undefined where the connection is closed
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
