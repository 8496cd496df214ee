import type { NetworkConnectionOptions } from './network-connection.ts'

const SESSION_EXPIRY_S = 300
/**
 * Everything is acknowledged as it arrives. Unless told so, Mosquitto keeps 20 messages in flight and 1000 behind them,
 * and drops the rest of a burst without a word.
 */
const RECEIVE_MAXIMUM = 65_535
const CONNECT_TIMEOUT_MS = 5000

/** What MQTT.js is told of a network connection, which is to do nothing by itself but connect, ping and close. */
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
        receiveMaximum: durable?.receiveMaximum ?? RECEIVE_MAXIMUM,
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
    // Its own makes a line of text of every packet before it looks whether anybody reads it.
    log: () => {},
    connectTimeout: CONNECT_TIMEOUT_MS,
    reconnectPeriod: 0,
    resubscribe: false,
  }
}
