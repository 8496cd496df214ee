import { filterContains, hasWildcard } from '../topic.ts'
import { type BrokerMessage, isExpired, type KeptMessages } from './broker-message.ts'

/** The last retained message of each topic, in memory. */
export class RetainedMessages {
  readonly #kept: KeptMessages
  readonly #byTopic = new Map<string, BrokerMessage>()

  constructor(kept: KeptMessages) {
    this.#kept = kept
  }

  /**
   * Keeps the message in place of an earlier one. An empty payload clears the topic [MQTT-3.3.1-6].
   * @returns false where there is no memory for it, and nothing has changed
   */
  set(message: BrokerMessage): boolean {
    const { topic, payload } = message
    if (payload.length > 0 && !this.#kept.keep(message)) return false
    this.#delete(topic)
    if (payload.length > 0) this.#byTopic.set(topic, message)
    return true
  }

  matching(filter: string): BrokerMessage[] {
    const candidates = hasWildcard(filter) ? this.#byTopic.values() : [this.#byTopic.get(filter)]
    const found: BrokerMessage[] = []
    for (const message of candidates) {
      if (message === undefined || !filterContains(filter, message.topic)) continue
      if (isExpired(message)) this.#delete(message.topic)
      else found.push(message)
    }
    return found
  }

  clear(): void {
    for (const topic of this.#byTopic.keys()) this.#delete(topic)
  }

  #delete(topic: string): void {
    const message = this.#byTopic.get(topic)
    if (message === undefined) return
    this.#byTopic.delete(topic)
    this.#kept.drop(message)
  }
}
