/**
 * Most items that are worked on, or finished and not yet taken, at the same time. An item that is larger than `bytes`
 * alone is worked on when no other is.
 */
export interface InOrderLimits {
  items: number
  bytes: number
}

interface Slot {
  result: string | undefined
}

/**
 * Works on several items at once and yields their results in the order of the items. Results that finish in the same
 * turn of the event loop are joined into one string. Ending the generator ends the reading of items.
 * @param work must not reject
 * @throws what `items` throws, after the results of all items that came before
 */
export async function* inOrder<Item extends { bytes: number }>(
  items: AsyncIterable<readonly Item[]>,
  work: (item: Item) => Promise<string>,
  limits: InOrderLimits,
): AsyncGenerator<string> {
  /** Items worked on or not yet taken, in their order. */
  let slots: Slot[] = []
  let bytes = 0
  let isEnded = false
  /** Wakes the reading side: there may be room. */
  let wakeReader = () => {}
  /** Wakes the yielding side: the first result may be there. */
  let wakeWriter = () => {}

  async function start(item: Item): Promise<void> {
    const slot: Slot = { result: undefined }
    slots.push(slot)
    bytes += item.bytes
    slot.result = await work(item)
    bytes -= item.bytes
    wakeReader()
    // Not at once, so that other results of this turn of the event loop are joined to this one.
    if (slot === slots[0]) setImmediate(wakeWriter)
  }

  async function read(): Promise<void> {
    for await (const some of items) {
      for (const item of some) {
        while (!isEnded && (slots.length >= limits.items || (bytes > 0 && bytes + item.bytes > limits.bytes))) {
          await new Promise<void>((resolve) => (wakeReader = resolve))
        }
        if (isEnded) return
        void start(item)
      }
    }
  }

  let isRead = false
  const reading = read().finally(() => {
    isRead = true
    wakeWriter()
  })
  // Its error is thrown below, after the results. Until then it must not count as unhandled.
  reading.catch(() => {})
  try {
    while (!isRead || slots.length > 0) {
      if (slots[0]?.result === undefined) await new Promise<void>((resolve) => (wakeWriter = resolve))
      const unfinished = slots.findIndex(({ result }) => result === undefined)
      const finished = unfinished < 0 ? slots : slots.slice(0, unfinished)
      if (finished.length === 0) continue
      slots = slots.slice(finished.length)
      wakeReader()
      yield finished.map(({ result }) => result).join('')
    }
    await reading
  } finally {
    isEnded = true
    wakeReader()
  }
}
