import type { IClientOptions } from 'mqtt'

const MIN = 50_000
const MAX = 59_999

/**
 * Packet identifiers of SUBSCRIBE and UNSUBSCRIBE: 50,000 to 59,999, one after the other. Those of a client and of its
 * broker are apart (MQTT 5 section 2.2.1), but mochi and comqtt refuse a SUBSCRIBE whose identifier is that of a
 * message on its way to the client: SUBACK 0x91, and over MQTT 3.1.1 the connection is closed. Brokers number messages
 * from 1. Publishes number from 1 too, and markers count down from 65,535 to 60,000.
 */
export class PacketIds implements NonNullable<IClientOptions['messageIdProvider']> {
  readonly #used = new Set<number>()
  #last = MAX

  allocate(): number | null {
    if (this.#used.size > MAX - MIN) return null
    do this.#last = this.#last < MAX ? this.#last + 1 : MIN
    while (this.#used.has(this.#last))
    this.#used.add(this.#last)
    return this.#last
  }

  getLastAllocated(): number {
    return this.#last
  }

  register(id: number): boolean {
    if (this.#used.has(id)) return false
    this.#used.add(id)
    return true
  }

  deallocate(id: number): void {
    this.#used.delete(id)
  }

  clear(): void {
    this.#used.clear()
  }
}
