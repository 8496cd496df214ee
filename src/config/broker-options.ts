import { brokerUrls } from './broker-url.ts'
import type { BrokerFiles } from './certificates.ts'
import type { Config } from './config.ts'

/**
 * What the configuration says about the broker: its addresses with credentials, TLS, limits, protocol.
 *
 * @param brokerUrl the embedded broker's URL where the configuration names that
 * @param files called for each attempt to connect
 */
export function brokerOptions(config: Config, brokerUrl: string, files: () => BrokerFiles) {
  return {
    servers: brokerUrls(brokerUrl)!.map((url) => splitCredentials(config, url)),
    protocol: config.mqttProtocol,
    endpoint: () => ({
      ...files(),
      serverName: config.mqttServerName,
      keepaliveS: config.mqttKeepaliveS,
      connectTimeoutMs: config.mqttConnectTimeoutMs,
      maxPacketBytes: config.mqttMaxPacketBytes,
    }),
  }
}

/**
 * Takes user name and password out of the URL. MQTT.js would split them at the last colon, which a password may
 * contain.
 */
function splitCredentials({ mqttUsername, mqttPassword }: Config, url: URL) {
  const username = mqttUsername ?? (decodeURIComponent(url.username) || undefined)
  const password = mqttPassword ?? (decodeURIComponent(url.password) || undefined)
  const bare = new URL(url)
  bare.username = ''
  bare.password = ''
  return { url: bare.href, username, password }
}
