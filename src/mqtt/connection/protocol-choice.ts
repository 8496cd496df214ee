import { isUnanswered } from '../client/failures.ts'

/** CONNACK codes for a protocol version that the broker does not speak, in MQTT 3.1.1 and 5. */
const UNACCEPTABLE_PROTOCOL: unknown[] = [0x01, 0x84]
/**
 * After so many times that 3.1.1 was accepted where MQTT 5 had stayed unanswered, MQTT 5 is not tried any more. The
 * first time may have been chance: a broker that was starting.
 */
const UNANSWERED_MAX = 2

/** Which protocol version the attempts to connect to one address of the broker use. All connections share it. */
export class ProtocolChoice {
  readonly #isAuto: boolean
  #version: 5 | 4
  /** The broker showed that it does not speak MQTT 5. */
  #isMqtt5Refused = false
  #wasMqtt5Accepted = false
  /** The version is 3.1.1 because MQTT 5 stayed unanswered. */
  #isUnanswered = false
  #timesUnanswered = 0

  /** @param setting `auto` is MQTT 5, and 3.1.1 where the broker refuses 5 or does not answer it */
  constructor(setting: 'auto' | '5' | '3.1.1') {
    this.#isAuto = setting === 'auto'
    this.#version = setting === '3.1.1' ? 4 : 5
  }

  get version(): 5 | 4 {
    return this.#version
  }

  /** CONNACK accepted a connection of this version. */
  accepted(version: 5 | 4): void {
    if (version === 5) this.#wasMqtt5Accepted = true
    else if (this.#isUnanswered) {
      this.#isUnanswered = false
      this.#timesUnanswered += 1
      if (this.#timesUnanswered >= UNANSWERED_MAX) this.#isMqtt5Refused = true
    }
  }

  /**
   * An attempt ended before CONNACK accepted it. Returns whether the version is now 3.1.1 because of that, so that the
   * next attempt can follow at once.
   * @param version of the attempt
   * @param cause undefined where the broker closed the connection without a word; its `code` is CONNACK's, or the
   *   system's
   */
  fallsBack(version: 5 | 4, cause: unknown): boolean {
    if (!this.#isAuto || version !== 5) return false
    const code = (cause as { code?: unknown } | undefined)?.code
    if (UNACCEPTABLE_PROTOCOL.includes(code)) this.#isMqtt5Refused = true
    // RabbitMQ 3.10 closes an MQTT 5 connection without a CONNACK, and amqtt never answers it. From a broker that
    // accepted MQTT 5 before, the same only means that the connection broke.
    else if (this.#wasMqtt5Accepted || (cause !== undefined && !isUnanswered(cause))) return false
    if (this.#version === 5) this.#isUnanswered = isUnanswered(cause)
    this.#version = 4
    return true
  }

  /**
   * Goes back to MQTT 5, unless the broker showed that it does not speak it: a broker that closed the connection
   * without a word may just have been shutting down.
   */
  retryMqtt5(): void {
    if (this.#isAuto && !this.#isMqtt5Refused) this.#version = 5
  }
}
