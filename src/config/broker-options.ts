import type { Config } from './config.ts'

/**
 * What a connection to the broker takes from the configuration: address, credentials, TLS, protocol.
 *
 * @param login the caller's own, with CAUSEWAY_AUTH=broker; else the bridge's account is used
 */
export function brokerOptions(config: Config, brokerUrl: string, login?: { username: string; password: string }) {
  return {
    // Aedes 1.2 loses messages of the sessions it keeps, or ends the connection over them, where filters come and go
    // during traffic; and within one process no link breaks.
    keepSession: config.mqttUrl !== 'embedded:',
    protocol: config.mqttProtocol as 'auto' | '5' | '3.1.1',
    endpoint: {
      ...withoutCredentials(config, brokerUrl),
      ...login,
      ca: config.mqttCa,
      serverName: config.mqttServerName,
      // A broker may take whoever has the bridge's certificate for the bridge, whatever the password.
      ...(login === undefined && { cert: config.mqttCert, key: config.mqttKey }),
      keepaliveS: config.mqttKeepaliveS,
    },
  }
}

/** MQTT.js splits user and password at the last colon, be it part of the password. */
function withoutCredentials(
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
