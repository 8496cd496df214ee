import type { IPublishPacket } from 'mqtt-packet'
import type { Held } from '../../memory/account.ts'
import type { QoS } from '../message.ts'

/** A message as the broker keeps it until everybody who subscribes has it. */
export interface BrokerMessage {
  topic: string
  payload: Buffer
  qos: QoS
  retain: boolean
  /** What is forwarded unchanged (MQTT 5 section 3.3.2.3). The expiry is not: it shrinks while the message waits. */
  properties: IPublishPacket['properties']
  /** When it is no longer delivered, in milliseconds as of `Date.now`. */
  expiresAt: number | undefined
  /** Roughly what it takes in memory. */
  bytes: number
  /** How many keep it: queues, and the retained messages. For `KeptMessages` alone. */
  keepers: number
}

/** The messages that the broker keeps. Each takes memory once, however many sessions wait for it. */
export class KeptMessages {
  readonly #held: Held

  /** @param held released by whoever made it */
  constructor(held: Held) {
    this.#held = held
  }

  /** @returns false where there is no memory for it */
  keep(message: BrokerMessage): boolean {
    if (message.keepers === 0 && !this.#held.grow(message.bytes)) return false
    message.keepers += 1
    return true
  }

  drop(message: BrokerMessage): void {
    message.keepers -= 1
    if (message.keepers === 0) this.#held.shrink(message.bytes)
  }
}

/** Roughly what a message, its buffer and its place in a queue take in memory, in bytes. */
const OVERHEAD = 512

/** @param packet a PUBLISH, or the will of a CONNECT */
export function brokerMessage(
  packet: Pick<IPublishPacket, 'topic' | 'payload' | 'qos' | 'retain' | 'properties'>,
): BrokerMessage {
  const { messageExpiryInterval, ...properties } = packet.properties ?? {}
  // A copy: the parser's payload is a part of whatever came together with it.
  const payload = Buffer.from(packet.payload as Buffer)
  const isBare = Object.keys(properties).length === 0
  return {
    topic: packet.topic,
    payload,
    qos: packet.qos,
    retain: packet.retain,
    properties: isBare ? undefined : properties,
    expiresAt: messageExpiryInterval === undefined ? undefined : Date.now() + messageExpiryInterval * 1000,
    bytes: OVERHEAD + payload.length + 2 * packet.topic.length + (isBare ? 0 : sizeOfProperties(properties)),
    keepers: 0,
  }
}

export function isExpired({ expiresAt }: BrokerMessage): boolean {
  return expiresAt !== undefined && expiresAt < Date.now()
}

/** The properties as a subscriber gets them. */
export function forwardedProperties(
  { properties, expiresAt }: BrokerMessage,
  identifiers: readonly number[],
): IPublishPacket['properties'] {
  return {
    ...properties,
    ...(expiresAt !== undefined && { messageExpiryInterval: Math.ceil(Math.max(0, expiresAt - Date.now()) / 1000) }),
    ...(identifiers.length > 0 && { subscriptionIdentifier: [...identifiers] }),
  }
}

function sizeOfProperties(properties: NonNullable<IPublishPacket['properties']>): number {
  const { correlationData, ...others } = properties
  return 2 * JSON.stringify(others).length + (correlationData?.length ?? 0)
}
