import type { QoS } from '../message.ts'

/** Where the broker is, and how to connect and log in to it. */
export interface Endpoint {
  /** With `mqtt:`, `mqtts:`, `ws:`, `wss:` or `mqtt+unix:`, without credentials. */
  url: string
  username?: string | undefined
  password?: string | undefined
  ca?: string | undefined
  /** The name that the broker's certificate must have, if that is not the host in the URL. */
  serverName?: string | undefined
  cert?: string | undefined
  key?: string | undefined
  /** Headers of the WebSocket upgrade. */
  headers?: Readonly<Record<string, string>> | undefined
  keepaliveS: number
  /** Longest time for an attempt to connect, from the look-up of the host's name to CONNACK. */
  connectTimeoutMs: number
  /** Largest packet that the broker may send. */
  maxPacketBytes: number
}

export interface Will {
  topic: string
  payload: Buffer
  qos: QoS
  retain: boolean
}

const DEFAULT_PORTS: Record<string, number> = { 'mqtt:': 1883, 'mqtts:': 8883, 'ws:': 80, 'wss:': 443 }

/** The port of a broker's URL; undefined for a Unix socket. */
export function portOf({ port, protocol }: URL): number | undefined {
  return port === '' ? DEFAULT_PORTS[protocol] : Number(port)
}

/** A broker's URL for people: with its port, without credentials and without a query, which may be a secret. */
export function addressOf(brokerUrl: string): string {
  const url = new URL(brokerUrl)
  if (url.protocol === 'mqtt+unix:') return `${url.protocol}//${decodeURIComponent(url.pathname)}`
  return `${url.protocol}//${url.hostname}:${portOf(url)}${url.pathname === '/' ? '' : url.pathname}`
}
