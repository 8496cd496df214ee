/** CONNACK codes for a protocol version that the broker does not speak, in MQTT 3.1.1 and 5. */
const UNACCEPTABLE_PROTOCOL: unknown[] = [0x01, 0x84]

/** Which protocol version the next attempt to connect uses. */
export class ProtocolChoice {
  readonly #isAuto: boolean
  #version: 5 | 4
  /** The broker answered CONNECT with a code that says it does not speak MQTT 5. */
  #isMqtt5Refused = false
  #wasMqtt5Accepted = false

  /** @param setting `auto` is MQTT 5, and 3.1.1 where the broker refuses 5 */
  constructor(setting: 'auto' | '5' | '3.1.1') {
    this.#isAuto = setting === 'auto'
    this.#version = setting === '3.1.1' ? 4 : 5
  }

  get version(): 5 | 4 {
    return this.#version
  }

  /** CONNACK accepted a connection of this version. */
  accepted(): void {
    if (this.#version === 5) this.#wasMqtt5Accepted = true
  }

  /**
   * An attempt ended before CONNACK accepted it. Returns whether the version is now 3.1.1 because of that, so that the
   * next attempt can follow at once.
   * @param cause undefined where the broker closed the connection without a word
   * @param code CONNACK's, or the system's
   */
  fallsBack(cause: unknown, code: unknown): boolean {
    if (!this.#isAuto || this.#version !== 5) return false
    this.#isMqtt5Refused = UNACCEPTABLE_PROTOCOL.includes(code)
    // RabbitMQ 3.10 closes an MQTT 5 connection without a CONNACK. From a broker that accepted MQTT 5 before, the same
    // only means that the connection broke.
    if (!this.#isMqtt5Refused && (cause !== undefined || this.#wasMqtt5Accepted)) return false
    this.#version = 4
    return true
  }

  /**
   * Goes back to MQTT 5, unless the broker said in CONNACK that it does not speak it: a broker that closed the
   * connection without a word may just have been shutting down.
   */
  retryMqtt5(): void {
    if (this.#isAuto && !this.#isMqtt5Refused) this.#version = 5
  }
}
