import type { QoS } from '../message.ts'

/** Where the broker is, and how to connect and log in to it. */
export interface Endpoint {
  url: string
  username?: string | undefined
  password?: string | undefined
  ca?: string | undefined
  /** The name that the broker's certificate must have, if that is not the host in the URL. */
  serverName?: string | undefined
  cert?: string | undefined
  key?: string | undefined
  keepaliveS: number
}

export interface Will {
  topic: string
  payload: Buffer
  qos: QoS
  retain: boolean
}
