import type { NetworkConnectionOptions } from './network-connection.ts'

const SESSION_EXPIRY_S = 300
/**
 * The largest possible value, since every message is acknowledged as it arrives. If a client names none, Mosquitto
 * holds 20 messages in flight and 1000 behind them, and drops the rest of a burst silently.
 */
const RECEIVE_MAXIMUM = 65_535
const CONNECT_TIMEOUT_MS = 5000

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
}: Omit<NetworkConnectionOptions, 'session'>) {
  const { username, password, ca, cert, key, serverName, keepaliveS } = endpoint
  return {
    clientId,
    clean,
    protocolVersion: protocol,
    ...(protocol === 5 && {
      properties: {
        sessionExpiryInterval: durable?.expiryS ?? SESSION_EXPIRY_S,
        receiveMaximum: RECEIVE_MAXIMUM,
      },
    }),
    ...(will && { will }),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    ...(serverName !== undefined && { servername: serverName, wsOptions: { servername: serverName } as object }),
    keepalive: keepaliveS,
    // The default logger formats a line of text for every packet, even if debugging is off.
    log: () => {},
    connectTimeout: CONNECT_TIMEOUT_MS,
    reconnectPeriod: 0,
    resubscribe: false,
  }
}
