const PAGE_BITS = 8
const PAGE_MASK = 255

interface Page<Value> {
  values: (Value | undefined)[]
  used: number
}

/**
 * Values by packet identifier, 1 to 65,535.
 *
 * Not a Map: V8 chains the tables that a Map has had, so one of them in the old generation keeps all later ones alive,
 * with everything that passed through them, until the next collection of that. A session through which 10,000 messages
 * a second pass had 100 MB of such garbage.
 */
export class PacketIdTable<Value> {
  /** A page is there while it has values. */
  readonly #pages: (Page<Value> | undefined)[] = []
  /** The page that was given up last. Messages that a session leaves to the broker come and go one at a time. */
  #spare: Page<Value> | undefined
  #size = 0

  get size(): number {
    return this.#size
  }

  get(id: number): Value | undefined {
    return this.#pages[id >> PAGE_BITS]?.values[id & PAGE_MASK]
  }

  set(id: number, value: Value): void {
    const index = id >> PAGE_BITS
    while (this.#pages.length <= index) this.#pages.push(undefined)
    let page = this.#pages[index]
    if (page === undefined) {
      page = this.#spare ?? { values: Array.from({ length: PAGE_MASK + 1 }, () => undefined), used: 0 }
      this.#spare = undefined
      this.#pages[index] = page
    }
    if (page.values[id & PAGE_MASK] === undefined) {
      page.used += 1
      this.#size += 1
    }
    page.values[id & PAGE_MASK] = value
  }

  /** @returns whether there was one */
  delete(id: number): boolean {
    const page = this.#pages[id >> PAGE_BITS]
    if (page?.values[id & PAGE_MASK] === undefined) return false
    page.values[id & PAGE_MASK] = undefined
    page.used -= 1
    this.#size -= 1
    if (page.used > 0) return true
    this.#pages[id >> PAGE_BITS] = undefined
    this.#spare = page
    return true
  }

  clear(): void {
    this.#pages.length = 0
    this.#size = 0
  }

  /** By identifier. */
  *values(): Generator<Value> {
    for (const page of this.#pages) {
      for (const value of page?.values ?? []) if (value !== undefined) yield value
    }
  }
}
