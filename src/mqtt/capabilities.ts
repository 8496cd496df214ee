import { isUtf8 } from 'node:buffer'
import { CausewayError } from '../errors.ts'
import type { Message } from './message.ts'
import { hasWildcard, isShared, plainFilter } from './topic.ts'

/** What the broker supports, as it says in CONNACK (MQTT 5 section 3.2.2.3) or as MQTT 3.1.1 implies. */
export interface Capabilities {
  protocol: 5 | 4
  /**
   * Most QoS 1 and 2 publishes that may be unacknowledged; undefined over MQTT 3.1.1, where the broker does not say.
   */
  receiveMaximum: number | undefined
  /** Most bytes of a whole packet; undefined where there is no limit. */
  maximumPacketSize: number | undefined
  maximumQoS: number
  retain: boolean
  wildcards: boolean
  sharedSubscriptions: boolean
  subscriptionIdentifiers: boolean
  /** Seconds for which the broker keeps the session, if that is not what CONNECT asked for. */
  sessionExpiryS: number | undefined
}

/** Over MQTT 3.1.1 no broker says whether it has shared subscriptions; there `sharedOver311` decides. */
export function withSharedOver311(capabilities: Capabilities, sharedOver311: boolean): Capabilities {
  return capabilities.protocol === 5 ? capabilities : { ...capabilities, sharedSubscriptions: sharedOver311 }
}

/**
 * Refuses a message that the broker does not support. It is never sent, because the broker would answer by closing the
 * connection, and every other publish on that connection would be interrupted.
 * @param packetSize called only if the broker limits the size
 * @throws CausewayError
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
  const { properties } = message
  if (properties !== undefined && capabilities.protocol !== 5 && Object.keys(properties).length > 0) {
    throw new CausewayError(
      'properties-not-supported',
      `This broker speaks MQTT 3.1.1, which cannot carry: ${Object.keys(properties).join(', ')}`,
    )
  }
  if (properties?.payloadFormatIndicator && !isUtf8(message.payload)) {
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

/**
 * The same for a subscription.
 * @throws CausewayError
 */
export function checkSubscribe(filter: string, capabilities: Capabilities): void {
  if (isShared(filter) && !capabilities.sharedSubscriptions) {
    const hint =
      capabilities.protocol === 4
        ? ' over MQTT 3.1.1, as far as is known; CAUSEWAY_MQTT_SHARED_SUBSCRIPTIONS=true says that it does'
        : ''
    throw new CausewayError(
      'shared-subscriptions-not-supported',
      `The broker does not support shared subscriptions, which ${filter} asks for${hint}`,
    )
  }
  if (hasWildcard(plainFilter(filter)) && !capabilities.wildcards) {
    throw new CausewayError('wildcards-not-supported', `The broker does not support the wildcards of ${filter}`)
  }
}
