import type { IClientOptions } from 'mqtt'
import { type Endpoint, portOf } from './endpoint.ts'
import type { NetworkConnectionOptions } from './network-connection.ts'

const SESSION_EXPIRY_S = 300
/**
 * The largest possible value, since every message is acknowledged as it arrives. If a client names none, Mosquitto
 * holds 20 messages in flight and 1000 behind them, and drops the rest of a burst silently.
 */
const RECEIVE_MAXIMUM = 65_535
/** WebSocket messages may hold more than one packet, so they may be larger than one by this. */
const MESSAGE_BYTES_MORE = 1_048_576
/** MQTT.js counts only the wait for CONNACK, and cannot tell a broker that is not reached from one that is silent. */
const NO_CONNECT_TIMEOUT_MS = 2 ** 31 - 1

/**
 * Options with which MQTT.js does nothing by itself but connect, ping and close: it neither reconnects nor
 * resubscribes.
 */
export function clientOptions({
  endpoint,
  protocol,
  clientId,
  clean,
  will,
  durable,
}: Omit<NetworkConnectionOptions, 'session'>): IClientOptions {
  const { username, password, keepaliveS, maxPacketBytes } = endpoint
  return {
    ...transportOptions(endpoint),
    clientId,
    clean,
    protocolVersion: protocol,
    ...(protocol === 5 && {
      properties: {
        // FlashMQ and rumqttd ignore an expiry of 0 in DISCONNECT. Artemis publishes no will before the session ends.
        sessionExpiryInterval: clean ? 0 : (durable?.expiryS ?? SESSION_EXPIRY_S),
        receiveMaximum: RECEIVE_MAXIMUM,
        maximumPacketSize: maxPacketBytes,
      },
    }),
    ...(will && { will }),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    keepalive: keepaliveS,
    // The default logger formats a line of text for every packet, even if debugging is off.
    log: () => {},
    connectTimeout: NO_CONNECT_TIMEOUT_MS,
    reconnectPeriod: 0,
    resubscribe: false,
    // Otherwise MQTT.js sets a new timer with each acknowledgement that it receives. Now a ping is sent once in each
    // keep-alive, whatever else is sent.
    reschedulePings: false,
  }
}

/**
 * Where MQTT.js connects. It gets no URL: it would take a client id from its query, take a colon in a password for the
 * end of the user name, and lose the brackets of an IPv6 address in the URL of a WebSocket.
 */
function transportOptions({ url, ca, cert, key, serverName, headers, maxPacketBytes }: Endpoint): IClientOptions {
  const parsed = new URL(url)
  if (parsed.protocol === 'mqtt+unix:') {
    return { protocol: 'mqtt+unix', path: decodeURIComponent(parsed.pathname) } as IClientOptions
  }
  const protocol = parsed.protocol.slice(0, -1) as 'mqtt' | 'mqtts' | 'ws' | 'wss'
  const isEncrypted = protocol === 'mqtts' || protocol === 'wss'
  const isWebSocket = protocol === 'ws' || protocol === 'wss'
  const host = parsed.hostname.replace(/^\[(.*)\]$/, '$1')
  return {
    protocol,
    host,
    hostname: host,
    port: portOf(parsed)!,
    ...(isEncrypted && {
      ...(ca !== undefined && { ca }),
      // MQTT.js would make TLS of any connection for which it gets a certificate.
      ...(cert !== undefined && { cert }),
      ...(key !== undefined && { key }),
      ...(serverName !== undefined && { servername: serverName }),
    }),
    ...(isWebSocket && {
      transformWsUrl: () => url,
      wsOptions: {
        ...(isEncrypted && serverName !== undefined && { servername: serverName }),
        headers,
        // A message is handed over only as a whole.
        maxPayload: maxPacketBytes + MESSAGE_BYTES_MORE,
      } as object,
    }),
  }
}
