/** What a URL in CAUSEWAY_MQTT_URL may look like, for the error. */
export const BROKER_URL_EXPECTED =
  'embedded: or mqtt://, mqtts://, ws:// or wss:// URLs with a host, or mqtt+unix:///PATH, separated by commas'

const SCHEME = String.raw`(?:mqtts?|wss?|mqtt\+unix):\/\/`

/**
 * The brokers of CAUSEWAY_MQTT_URL, in the order in which they are tried. A comma separates two of them only if another
 * URL follows it: a password may contain commas too.
 * @returns undefined where a part is not a URL of a broker
 */
export function brokerUrls(value: string): URL[] | undefined {
  const urls = value.split(new RegExp(`,(?=${SCHEME})`)).map((part) => brokerUrl(part))
  return urls.every((url) => url !== undefined) ? urls : undefined
}

/** Whether connections to it are encrypted. */
export function isEncrypted({ protocol }: URL): boolean {
  return protocol === 'mqtts:' || protocol === 'wss:'
}

export function isWebSocket({ protocol }: URL): boolean {
  return protocol === 'ws:' || protocol === 'wss:'
}

/**
 * What in a broker's URL would have no effect, or cannot be read. The texts contain no part of the URL.
 * @returns for each fault what was expected, and what was there
 */
export function brokerUrlFaults(url: URL): string[] {
  const faults: string[] = []
  for (const [what, text] of [
    ['user name', url.username],
    ['password', url.password],
  ] as const) {
    if (!isDecodable(text)) {
      faults.push(`expected a ${what} in which % is written as %25, got a % without two hexadecimal digits behind it`)
    }
  }
  if (url.hash !== '') faults.push('expected no fragment, got a # with text behind it; in a password it is %23')
  if (isWebSocket(url)) return faults
  if (url.search !== '') {
    faults.push('expected a query only in ws:// and wss:// URLs, got one where it means nothing')
  }
  if (url.protocol !== 'mqtt+unix:' && !['', '/'].includes(url.pathname)) {
    faults.push('expected a path only in ws://, wss:// and mqtt+unix:// URLs, got one where it means nothing')
  }
  return faults
}

function brokerUrl(text: string): URL | undefined {
  if (!new RegExp(String.raw`^${SCHEME}\S+$`).test(text) || !URL.canParse(text)) return undefined
  const url = new URL(text)
  if (url.protocol === 'mqtt+unix:') {
    return url.host === '' && url.pathname.length > 1 && isDecodable(url.pathname) ? url : undefined
  }
  return url.hostname === '' || url.hostname.includes(',') ? undefined : url
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}
