import type { QoS } from '../message.ts'

/** Where the broker is and who we are to it. */
export interface Endpoint {
  url: string
  username?: string | undefined
  password?: string | undefined
  ca?: string | undefined
  /** What is to be in the broker's certificate in place of the URL's host. */
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
