import { isUtf8 } from 'node:buffer'
import { setTimeout as delay } from 'node:timers/promises'
import { CausewayError, type ProblemCode } from '../errors.ts'
import type { MemoryShare } from '../memory/account.ts'
import { type Message, toJsonText } from '../mqtt/message.ts'
import type { Failure } from './delivery.ts'
import { retryDelayMs } from './retry.ts'

export interface DeadLettersOptions {
  /** @throws CausewayError with what the broker answered, or that it did not */
  publish(message: Message, share: MemoryShare): Promise<unknown>
  /** The broker does not take a dead letter now; it is tried again. */
  failing(name: string, reason: string): void
}

export interface DeadLetter {
  /** Of the target. */
  name: string
  topic: string
  message: Message
  failure: Failure
  share: MemoryShare
}

const RETRY_MAX_MS = 30_000
/**
 * Refusals that last until somebody changes the rules of the broker, which the letter waits for: otherwise a slip
 * there would lose messages.
 */
const WAITED_FOR: readonly ProblemCode[] = ['not-authorized', 'bridge-refused', 'broker-refused']

/** Publishes messages that no endpoint took, so that somebody can look at them. */
export class DeadLetters {
  readonly #options: DeadLettersOptions

  constructor(options: DeadLettersOptions) {
    this.#options = options
  }

  /**
   * Resolves once the broker has the letter, however long it is away.
   * @throws CausewayError if the broker can never take it, and AbortError when the signal is aborted first
   */
  async publish(letter: DeadLetter, signal: AbortSignal): Promise<void> {
    for (let failures = 1; ; failures += 1) {
      try {
        await this.#publishOnce(letter)
        return
      } catch (error) {
        signal.throwIfAborted()
        const { kind, message } = error as CausewayError
        if (!(error instanceof CausewayError) || !(kind.retryable || WAITED_FOR.includes(kind.code))) throw error
        this.#options.failing(letter.name, message)
        await delay(retryDelayMs(failures, RETRY_MAX_MS), undefined, { signal })
      }
    }
  }

  async #publishOnce(letter: DeadLetter): Promise<void> {
    const { publish } = this.#options
    try {
      await publish(withProperties(letter), letter.share)
    } catch (error) {
      // Found out before anything is sent.
      if (!(error instanceof CausewayError) || error.kind.code !== 'properties-not-supported') throw error
      await publish(envelope(letter), letter.share)
    }
  }
}

/** The message as it was, with what happened in user properties. It does not expire. */
function withProperties({ name, topic, message, failure }: DeadLetter): Message {
  const { messageExpiryInterval: _, payloadFormatIndicator, userProperties, ...properties } = message.properties ?? {}
  return {
    topic,
    payload: message.payload,
    qos: 1,
    retain: false,
    properties: {
      ...properties,
      // The broker would refuse a letter whose payload is not what it says.
      ...(payloadFormatIndicator && isUtf8(message.payload) && { payloadFormatIndicator }),
      userProperties: {
        ...userProperties,
        'push-name': name,
        'push-status': String(failure.status ?? 'none'),
        'push-reason': failure.reason,
        'push-topic': message.topic,
      },
    },
  }
}

/** The same as one JSON object, for MQTT 3.1.1, which has no properties. */
function envelope({ name, topic, message, failure }: DeadLetter): Message {
  const about = JSON.stringify({
    'push-name': name,
    'push-status': failure.status ?? null,
    'push-reason': failure.reason,
    'push-topic': message.topic,
  })
  const text = `${about.slice(0, -1)},"message":${toJsonText(message, false)}}`
  return { topic, payload: Buffer.from(text), qos: 1, retain: false }
}
