import { element } from './element.ts'
import type { Entry } from './kept.ts'
import { previewOf, shownAs, type View } from './payload.ts'
import { clock, visible } from './visible.ts'

const ROWS_MAX = 300
const TOPIC_MAX = 200
const PREVIEW_MAX = 300
/** Distance from the end, in pixels, at which new rows still scroll into view. */
const AT_END = 30

/**
 * The rows of the log, bounded. A row opens to the whole payload. One row at a time is in the order of the Tab key; the
 * arrow keys move to the others.
 */
export class LogView {
  readonly #root: HTMLElement
  #view: View = 'text'

  constructor(root: HTMLElement) {
    this.#root = root
    root.addEventListener('keydown', (event) => this.#onKey(event))
  }

  /** Scrolls with the new rows if the end is in view. */
  append(entries: readonly Entry[]): void {
    if (entries.length === 0) return
    const { scrollHeight, scrollTop, clientHeight } = this.#root
    const isAtEnd = scrollHeight - scrollTop - clientHeight < AT_END
    this.#root.append(
      ...entries.slice(-ROWS_MAX).map((entry) => (entry.note === undefined ? this.#row(entry) : noteOf(entry))),
    )
    while (this.#root.childElementCount > ROWS_MAX) this.#root.firstElementChild!.remove()
    if (isAtEnd) this.#root.scrollTop = this.#root.scrollHeight
  }

  /** Shows these rows in place of those there are. */
  replace(entries: readonly Entry[]): void {
    this.#root.replaceChildren()
    this.append(entries)
    this.#root.scrollTop = this.#root.scrollHeight
  }

  /** @param view how payloads of opened rows are shown */
  showAs(view: View): void {
    this.#view = view
    for (const row of this.#root.querySelectorAll<HTMLDetailsElement>('details[open]')) {
      row.open = false
      row.open = true
    }
  }

  #row(entry: Entry): HTMLElement {
    const message = entry.message!
    const tags = [
      ...(message.retain ? [tag('retained', 'good')] : []),
      ...(message.redelivered ? [tag('redelivered', 'warn')] : []),
      tag(`QoS ${message.qos ?? 0}`),
    ]
    const row = element(
      'details',
      { class: 'message' },
      element(
        'summary',
        { tabindex: -1 },
        timeOf(entry),
        element('span', { class: 'topic', text: visible(message.topic, TOPIC_MAX) }),
        element('span', { class: 'preview', text: visible(previewOf(message, PREVIEW_MAX + 1), PREVIEW_MAX) }),
        ...tags,
      ),
    )
    row.addEventListener('toggle', () => this.#fill(row, entry))
    return row
  }

  #fill(row: HTMLDetailsElement, { id, message }: Entry): void {
    const summary = row.firstElementChild!
    if (!row.open) return row.replaceChildren(summary)
    const { topic, properties, encoding } = message!
    const about = [`topic ${visible(topic, Infinity)}`, `event ${id ?? '–'}`, `payload in ${encoding ?? 'utf8'}`]
    row.replaceChildren(
      summary,
      element('p', { class: 'about', text: about.join(' · ') }),
      ...(properties === undefined ? [] : [element('p', { class: 'about', text: JSON.stringify(properties) })]),
      element('pre', { tabindex: 0, text: shownAs(message!, this.#view) }),
    )
    row.scrollIntoView({ block: 'nearest' })
  }

  #onKey(event: KeyboardEvent): void {
    const summaries = [...this.#root.querySelectorAll<HTMLElement>('summary')]
    const index = summaries.indexOf(document.activeElement as HTMLElement)
    const isOnLog = document.activeElement === this.#root
    const targets: Record<string, number> = {
      ArrowDown: index + 1,
      ArrowUp: isOnLog ? summaries.length - 1 : Math.max(index - 1, 0),
      Home: 0,
      End: summaries.length - 1,
    }
    const target = summaries[targets[event.key] ?? -1]
    if (target === undefined || (index < 0 && !isOnLog)) return
    event.preventDefault()
    target.focus()
  }
}

function noteOf(entry: Entry): HTMLElement {
  const { text, tone } = entry.note!
  return element('div', { class: 'note', 'data-tone': tone }, timeOf(entry), element('span', { text }))
}

function timeOf({ at }: Entry): HTMLElement {
  return element('time', { datetime: at.toISOString(), text: clock(at) })
}

function tag(text: string, tone?: 'good' | 'warn'): HTMLElement {
  return element('span', { class: 'tag', text, 'data-tone': tone })
}
