import './silent-packets.ts'
import { generate, type IConnackPacket, type IPublishPacket } from 'mqtt-packet'
import type { Capabilities } from '../capabilities.ts'
import type { Message, MessageProperties, QoS } from '../message.ts'

/** An acknowledgement of a PUBLISH. MQTT 3.1.1 has no reason codes. */
export interface Acknowledgement {
  cmd: 'puback' | 'pubrec' | 'pubcomp'
  messageId: number
  reasonCode?: number
  properties?: { reasonString?: string }
}

export function capabilitiesOf({ properties = {} }: IConnackPacket, protocol: 5 | 4): Capabilities {
  return {
    protocol,
    receiveMaximum: protocol === 5 ? (properties.receiveMaximum ?? 65_535) : undefined,
    maximumPacketSize: properties.maximumPacketSize,
    maximumQoS: properties.maximumQoS ?? 2,
    retain: properties.retainAvailable ?? true,
    wildcards: properties.wildcardSubscriptionAvailable ?? true,
    // Over MQTT 3.1.1 a broker may treat `$share/...` as an ordinary filter, which then never matches anything.
    sharedSubscriptions: protocol === 5 && (properties.sharedSubscriptionAvailable ?? true),
    subscriptionIdentifiers: protocol === 5 && (properties.subscriptionIdentifiersAvailable ?? true),
    sessionExpiryS: properties.sessionExpiryInterval,
  }
}

export function publishPacket(
  { topic, payload, qos, retain, properties, ambient }: Message,
  messageId: number,
  dup: boolean,
): IPublishPacket {
  const packet: IPublishPacket = { cmd: 'publish', topic, payload, qos, retain, dup, messageId }
  if (properties !== undefined || ambient !== undefined) {
    const { correlationData, userProperties, ...others } = {
      ...ambient,
      ...properties,
      userProperties: { ...ambient?.userProperties, ...properties?.userProperties },
    }
    packet.properties = {
      ...others,
      ...(correlationData !== undefined && { correlationData: Buffer.from(correlationData, 'base64') }),
      // With `userProperties: {}` mqtt-packet writes no packet at all and reports no error.
      ...(Object.values(userProperties).flat().length > 0 && { userProperties }),
    }
  }
  return packet
}

/** Bytes of the whole MQTT 5 packet. */
export function packetSize(message: Message): number {
  return generate(publishPacket(message, 1, false), { protocolVersion: 5 }).length
}

export function messageFromPacket({ topic, payload, qos, retain, properties }: IPublishPacket): Message {
  return {
    topic,
    payload: payload as Buffer,
    qos: qos as QoS,
    retain,
    properties: properties && messageProperties(properties),
  }
}

export function subscriptionIdentifiersOf({ properties }: IPublishPacket): readonly number[] {
  // A message that matched several subscriptions may carry all their identifiers (MQTT 5 section 3.3.2.3.8), although
  // the type of mqtt-packet allows only one.
  const identifiers = properties?.subscriptionIdentifier as number | number[] | undefined
  return identifiers === undefined ? [] : Array.isArray(identifiers) ? identifiers : [identifiers]
}

function messageProperties({
  contentType,
  responseTopic,
  correlationData,
  messageExpiryInterval,
  payloadFormatIndicator,
  userProperties,
}: NonNullable<IPublishPacket['properties']>): MessageProperties | undefined {
  const properties: MessageProperties = {
    ...(contentType !== undefined && { contentType }),
    ...(responseTopic !== undefined && { responseTopic }),
    ...(correlationData !== undefined && { correlationData: correlationData.toString('base64') }),
    ...(messageExpiryInterval !== undefined && { messageExpiryInterval }),
    ...(payloadFormatIndicator !== undefined && { payloadFormatIndicator }),
    ...(userProperties !== undefined && { userProperties: userProperties as Record<string, string | string[]> }),
  }
  return Object.keys(properties).length > 0 ? properties : undefined
}
