import type { Message } from './message.ts'
import { previewOf } from './payload.ts'

/** What the page keeps of a stream: a message, or a note such as a gap. */
export interface Entry {
  /** Counts up from 1. */
  number: number
  at: Date
  /** The event id. */
  id: string | undefined
  message: Message | undefined
  note: { text: string; tone: 'warn' | 'good' | undefined } | undefined
}

const ENTRY_CHARACTERS = 200

/** The newest entries, bounded in number and in characters. */
export class Kept {
  readonly #entriesMax: number
  readonly #charactersMax: number
  #entries: Entry[] = []
  /** Entries before this index are dropped, and taken out from time to time, not one by one. */
  #first = 0
  #characters = 0
  #count = 0

  constructor(entriesMax: number, charactersMax: number) {
    this.#entriesMax = entriesMax
    this.#charactersMax = charactersMax
  }

  add(entry: Omit<Entry, 'number'>): Entry {
    const added = { number: (this.#count += 1), ...entry }
    this.#entries.push(added)
    this.#characters += sizeOf(added)
    while (this.length > 1 && (this.length > this.#entriesMax || this.#characters > this.#charactersMax)) {
      this.#characters -= sizeOf(this.#entries[this.#first]!)
      this.#first += 1
    }
    if (this.#first > this.#entriesMax) {
      this.#entries = this.#entries.slice(this.#first)
      this.#first = 0
    }
    return added
  }

  get length(): number {
    return this.#entries.length - this.#first
  }

  /** From the oldest one on. */
  get all(): Entry[] {
    return this.#entries.slice(this.#first)
  }

  /** The newest entries that match, at most so many, the oldest of them first. */
  newest(countMax: number, matches: (entry: Entry) => boolean): Entry[] {
    const found: Entry[] = []
    for (let index = this.#entries.length - 1; index >= this.#first && found.length < countMax; index -= 1) {
      const entry = this.#entries[index]!
      if (matches(entry)) found.push(entry)
    }
    return found.reverse()
  }

  clear(): void {
    this.#entries = []
    this.#first = 0
    this.#characters = 0
  }
}

function sizeOf({ message, note }: Entry): number {
  if (message === undefined) return ENTRY_CHARACTERS + note!.text.length
  const { topic, payload } = message
  return ENTRY_CHARACTERS + topic.length + (typeof payload === 'string' ? payload.length : 0)
}

/** Characters of a payload in which a search looks. */
const SEARCHED_MAX = 10_000

/** Whether an entry is in a part of the topic tree and contains a text. Notes always are, as they are about all. */
export function matcher(search: string, branch: string | undefined): (entry: Entry) => boolean {
  const wanted = search.toLowerCase()
  return ({ message }) => {
    if (message === undefined) return true
    const { topic } = message
    if (branch !== undefined && topic !== branch && !topic.startsWith(`${branch}/`)) return false
    if (wanted === '' || topic.toLowerCase().includes(wanted)) return true
    return previewOf(message, SEARCHED_MAX).toLowerCase().includes(wanted)
  }
}
