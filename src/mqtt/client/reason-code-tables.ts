import { createRequire } from 'node:module'

/** Tables of mqtt-packet: reason codes that it takes in a packet, with their names. They are no part of its types. */
type Tables = Record<string, Record<number, string>>

const TABLES = [
  'MQTT5_PUBACK_PUBREC_CODES',
  'MQTT5_PUBREL_PUBCOMP_CODES',
  'MQTT5_SUBACK_CODES',
  'MQTT5_UNSUBACK_CODES',
  'MQTT5_DISCONNECT_CODES',
]

/**
 * Makes mqtt-packet take every reason code in every MQTT 5 packet. It calls a packet with a code that is not in its
 * tables malformed, and the connection would be closed with everybody's publishes in flight. The tables lack codes of
 * the specification, such as PUBACK 0x95 that Mosquitto sends, and brokers send others. May be called again.
 */
export function acceptAllReasonCodes(): void {
  const tables = createRequire(import.meta.url)('mqtt-packet/constants.js') as Tables
  for (const table of TABLES) {
    for (let code = 0; code <= 0xff; code += 1) tables[table]![code] ??= 'Unknown'
  }
}
