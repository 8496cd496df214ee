import { CausewayError, type ProblemCode } from '../errors.ts'

export const SUCCESS = 0x00
export const NO_MATCHING_SUBSCRIBERS = 0x10
export const PACKET_IDENTIFIER_IN_USE = 0x91
export const PACKET_IDENTIFIER_NOT_FOUND = 0x92
export const QUOTA_EXCEEDED = 0x97
/** Reason codes from this one on are refusals (MQTT 5 section 2.4). */
export const FIRST_REFUSAL = 0x80

const NAMES: Record<number, string> = {
  0x00: 'Success',
  0x10: 'No matching subscribers',
  0x80: 'Unspecified error',
  0x81: 'Malformed packet',
  0x82: 'Protocol error',
  0x83: 'Implementation specific error',
  0x84: 'Unsupported protocol version',
  0x85: 'Client identifier not valid',
  0x86: 'Bad user name or password',
  0x87: 'Not authorized',
  0x88: 'Server unavailable',
  0x89: 'Server busy',
  0x8a: 'Banned',
  0x8b: 'Server shutting down',
  0x8c: 'Bad authentication method',
  0x8d: 'Keep alive timeout',
  0x8e: 'Session taken over',
  0x8f: 'Topic filter invalid',
  0x90: 'Topic name invalid',
  0x91: 'Packet identifier in use',
  0x92: 'Packet identifier not found',
  0x93: 'Receive maximum exceeded',
  0x94: 'Topic alias invalid',
  0x95: 'Packet too large',
  0x96: 'Message rate too high',
  0x97: 'Quota exceeded',
  0x98: 'Administrative action',
  0x99: 'Payload format invalid',
  0x9a: 'Retain not supported',
  0x9b: 'QoS not supported',
  0x9c: 'Use another server',
  0x9d: 'Server moved',
  0x9e: 'Shared subscriptions not supported',
  0x9f: 'Connection rate exceeded',
  0xa0: 'Maximum connect time',
  0xa1: 'Subscription identifiers not supported',
  0xa2: 'Wildcard subscriptions not supported',
}

const PROBLEMS: Record<number, ProblemCode> = {
  0x87: 'not-authorized',
  0x8f: 'filter-invalid',
  0x90: 'topic-invalid',
  0x95: 'payload-too-large',
  0x97: 'quota-exceeded',
  0x99: 'payload-format-invalid',
  0x9a: 'retain-not-supported',
  0x9b: 'qos-not-supported',
  0x9e: 'shared-subscriptions-not-supported',
  0xa2: 'wildcards-not-supported',
}

const RETRY_AFTER_QUOTA_S = 10

export function reasonName(code: number): string {
  return NAMES[code] ?? `Reason 0x${code.toString(16).padStart(2, '0')}`
}

/**
 * The error for a PUBLISH or SUBSCRIBE that the broker refused.
 * @param what the beginning of its text, before the reason
 * @param reasonString the broker's own text for the reason, if it sent one
 */
export function refusal(code: number, what: string, reasonString?: string): CausewayError {
  const problem = PROBLEMS[code] ?? 'broker-refused'
  const reason = reasonName(code)
  return new CausewayError(problem, `${what}: ${reasonString ?? reason}`, {
    mqtt: { reasonCode: code, reason },
    ...(problem === 'quota-exceeded' && { retryAfter: RETRY_AFTER_QUOTA_S }),
  })
}
