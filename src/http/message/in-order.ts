/** What may be under way, or done and not yet taken, at once. An item larger than the limit goes alone. */
export interface InOrderLimits {
  items: number
  bytes: number
}

interface Slot {
  result: string | undefined
}

/**
 * Works on items as they come, several at once, and yields the results in the order of the items, those of one turn
 * of the loop joined. Ends the items where it is ended itself.
 * @param work never rejects
 * @throws what the items throw, behind the results of all that came before
 */
export async function* inOrder<Item extends { bytes: number }>(
  items: AsyncIterable<readonly Item[]>,
  work: (item: Item) => Promise<string>,
  limits: InOrderLimits,
): AsyncGenerator<string> {
  let slots: Slot[] = []
  let bytes = 0
  let isEnded = false
  let taken = () => {}
  let first = () => {}

  async function start(item: Item): Promise<void> {
    const slot: Slot = { result: undefined }
    slots.push(slot)
    bytes += item.bytes
    slot.result = await work(item)
    bytes -= item.bytes
    taken()
    // What else is done in this turn of the loop goes along.
    if (slot === slots[0]) setImmediate(first)
  }

  async function read(): Promise<void> {
    for await (const some of items) {
      for (const item of some) {
        while (!isEnded && (slots.length >= limits.items || (bytes > 0 && bytes + item.bytes > limits.bytes))) {
          await new Promise<void>((resolve) => (taken = resolve))
        }
        if (isEnded) return
        void start(item)
      }
    }
  }

  let isRead = false
  const reading = read().finally(() => {
    isRead = true
    first()
  })
  // Thrown below, once it is its turn.
  reading.catch(() => {})
  try {
    while (!isRead || slots.length > 0) {
      if (slots[0]?.result === undefined) await new Promise<void>((resolve) => (first = resolve))
      const undone = slots.findIndex(({ result }) => result === undefined)
      const done = undone < 0 ? slots : slots.slice(0, undone)
      if (done.length === 0) continue
      slots = slots.slice(done.length)
      taken()
      yield done.map(({ result }) => result).join('')
    }
    await reading
  } finally {
    isEnded = true
    taken()
  }
}
