import type { Config } from './config.ts'

/**
 * The options of a connection to the broker that come from the configuration: address, credentials, TLS, protocol.
 *
 * @param login the caller's credentials, with CAUSEWAY_AUTH=broker. Without it the bridge's own account is used
 */
export function brokerOptions(config: Config, brokerUrl: string, login?: { username: string; password: string }) {
  return {
    // Not with the embedded broker: Aedes 1.2 loses messages of persistent sessions, or closes the connection, when
    // filters change during traffic. A session is not needed there, as a connection within the process does not break.
    keepSession: config.mqttUrl !== 'embedded:',
    protocol: config.mqttProtocol,
    endpoint: {
      ...splitCredentials(config, brokerUrl),
      ...login,
      ca: config.mqttCa,
      serverName: config.mqttServerName,
      // Not with a caller's credentials: a broker may identify a client by its certificate and ignore the password.
      ...(login === undefined && { cert: config.mqttCert, key: config.mqttKey }),
      keepaliveS: config.mqttKeepaliveS,
    },
  }
}

/**
 * Takes user name and password out of the URL. MQTT.js would split them at the last colon, which a password may
 * contain.
 */
function splitCredentials(
  { mqttUsername, mqttPassword }: Config,
  brokerUrl: string,
): { url: string; username: string | undefined; password: string | undefined } {
  const url = new URL(brokerUrl)
  const username = mqttUsername ?? (decodeURIComponent(url.username) || undefined)
  const password = mqttPassword ?? (decodeURIComponent(url.password) || undefined)
  url.username = ''
  url.password = ''
  return { url: url.href, username, password }
}
