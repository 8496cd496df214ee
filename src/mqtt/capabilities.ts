import { isUtf8 } from 'node:buffer'
import { CausewayError } from '../errors.ts'
import type { Message } from './message.ts'
import { hasWildcard, isShared, plainFilter } from './topic.ts'

/** What the broker said it takes, in CONNACK (MQTT 5 section 3.2.2.3), or what 3.1.1 implies. */
export interface Capabilities {
  protocol: 5 | 4
  /** QoS 1 and 2 publishes it takes unacknowledged; undefined where it did not say. */
  receiveMaximum: number | undefined
  /** Bytes of a whole packet; undefined where there is no limit. */
  maximumPacketSize: number | undefined
  maximumQoS: number
  retain: boolean
  wildcards: boolean
  sharedSubscriptions: boolean
  subscriptionIdentifiers: boolean
  /** How long the broker keeps the session, where that is not what it was asked for. */
  sessionExpiryS: number | undefined
}

/** With what is known of shared subscriptions from elsewhere: over MQTT 3.1.1 no broker says whether it has them. */
export function withSharedOver311(capabilities: Capabilities, sharedOver311: boolean): Capabilities {
  return capabilities.protocol === 5 ? capabilities : { ...capabilities, sharedSubscriptions: sharedOver311 }
}

/**
 * Refuses what CONNACK ruled out. A broker answers such a packet by closing the connection,
 * and with it every other caller's publishes, so it is never sent.
 */
export function checkPublish(message: Message, capabilities: Capabilities, packetSize: () => number): void {
  if (message.qos > capabilities.maximumQoS) {
    throw new CausewayError(
      'qos-not-supported',
      `The broker takes QoS ${capabilities.maximumQoS} at most, not ${message.qos}`,
    )
  }
  if (message.retain && !capabilities.retain) {
    throw new CausewayError('retain-not-supported', 'The broker does not retain messages; publish without retain')
  }
  const properties = Object.keys(message.properties ?? {})
  if (properties.length > 0 && capabilities.protocol !== 5) {
    throw new CausewayError(
      'properties-not-supported',
      `This broker speaks MQTT 3.1.1, which cannot carry: ${properties.join(', ')}`,
    )
  }
  if (message.properties?.payloadFormatIndicator && !isUtf8(message.payload)) {
    throw new CausewayError('payload-format-invalid', 'payloadFormatIndicator says UTF-8, but the payload is not')
  }
  const { maximumPacketSize } = capabilities
  if (maximumPacketSize === undefined) return
  const size = packetSize()
  if (size > maximumPacketSize) {
    throw new CausewayError(
      'payload-too-large',
      `The message makes a packet of ${size} bytes; the broker takes ${maximumPacketSize} at most`,
    )
  }
}

/** The same for a subscription. */
export function checkSubscribe(filter: string, capabilities: Capabilities): void {
  if (isShared(filter) && !capabilities.sharedSubscriptions) {
    const unsure =
      capabilities.protocol === 4
        ? ' over MQTT 3.1.1, as far as is known; CAUSEWAY_MQTT_SHARED_SUBSCRIPTIONS=true says it does'
        : ''
    throw new CausewayError(
      'shared-subscriptions-not-supported',
      `The broker does not support shared subscriptions, which ${filter} asks for${unsure}`,
    )
  }
  if (hasWildcard(plainFilter(filter)) && !capabilities.wildcards) {
    throw new CausewayError('wildcards-not-supported', `The broker does not support the wildcards of ${filter}`)
  }
}
