import type { Api, Settings } from './api.ts'
import { byId, say } from './element.ts'
import { type Entry, Kept, matcher } from './kept.ts'
import { LogView } from './log-view.ts'
import { previewOf, type View } from './payload.ts'
import { Sample } from './sample.ts'
import { Stream, type StreamEvent } from './stream.ts'
import { TopicTree } from './topic-tree.ts'
import { TreeView } from './tree-view.ts'
import { visible } from './visible.ts'

/** What is kept for search and download. */
const KEPT_MAX = 10_000
const KEPT_CHARACTERS_MAX = 16_000_000
const TOPICS_MAX = 5000
const VALUE_MAX = 100
/** How many rows a search, or the log while it is paused, shows. */
const FOUND_MAX = 300
const RENDER_MS = 120
const RATES_MS = 1000
/** Above so many messages a second a screen reader would never finish reading the log. */
const READ_ALOUD_MAX = 2

/** Follows topics: the stream, what is kept of it, and the two ways to see it. */
export class FollowPanel {
  readonly #api: Api
  readonly #heartbeatMs: number
  readonly #kept = new Kept(KEPT_MAX, KEPT_CHARACTERS_MAX)
  readonly #tree = new TopicTree(TOPICS_MAX, performance.now())
  readonly #treeView: TreeView
  readonly #log = byId('messages')
  readonly #logView = new LogView(this.#log)
  readonly #state = byId('stream-state')
  readonly #pause = byId<HTMLButtonElement>('pause')
  readonly #search = byId<HTMLInputElement>('search')
  readonly #sample = new Sample(performance.now())
  #stream: Stream | undefined
  #settled: Promise<void> = Promise.resolve()
  #settle = () => {}
  /** What came since the log was drawn last. */
  #waiting: Entry[] = []
  #branch: string | undefined
  #matches = matcher('', undefined)
  #total = 0
  #totalBefore = 0
  #shown = 0
  #shownBefore = 0
  #ratedAt = performance.now()
  #sampledAt = -Infinity

  constructor(api: Api, settings: Settings) {
    this.#api = api
    this.#heartbeatMs = settings.heartbeatMs
    this.#treeView = new TreeView(byId('tree'), this.#tree, (path) => this.#showBranch(path))
    const form = byId<HTMLFormElement>('follow-form')
    form.addEventListener('submit', (event) => {
      event.preventDefault()
      this.#follow()
    })
    const filter = byId<HTMLTextAreaElement>('filter')
    filter.addEventListener('input', () => (filter.rows = Math.min(filter.value.split('\n').length, 6)))
    filter.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey) return
      event.preventDefault()
      form.requestSubmit()
    })
    byId('stop').addEventListener('click', () => this.#stop())
    byId('clear').addEventListener('click', () => this.#clear())
    byId('download').addEventListener('click', () => this.#download())
    byId('only').addEventListener('click', () => this.#treeView.choose(undefined))
    byId('view').addEventListener('change', (event) =>
      this.#logView.showAs((event.target as HTMLSelectElement).value as View),
    )
    this.#pause.addEventListener('click', () => this.#setPaused(!this.#isPaused))
    let searching: ReturnType<typeof setTimeout> | undefined
    this.#search.addEventListener('input', () => {
      clearTimeout(searching)
      searching = setTimeout(() => this.#showAgain(), 150)
    })
    // Browsers let timers of pages in the background wait for up to a minute.
    document.addEventListener('visibilitychange', () => document.hidden || this.#stream?.retryNow())
    addEventListener('online', () => this.#stream?.retryNow())
    setInterval(() => this.#render(), RENDER_MS)
    setInterval(() => this.#rate(), RATES_MS)
  }

  /** Settles once it is known whether the bridge follows what was asked for last. */
  get settled(): Promise<void> {
    return this.#settled
  }

  #follow(): void {
    this.#stream?.stop()
    this.#settle()
    this.#settled = new Promise((resolve) => (this.#settle = resolve))
    const query = new URLSearchParams({
      qos: byId<HTMLSelectElement>('follow-qos').value,
      retained: String(byId<HTMLInputElement>('with-retained').checked),
    })
    const filters = byId<HTMLTextAreaElement>('filter').value.split('\n')
    for (const filter of filters) if (filter !== '') query.append('topic', filter)
    byId<HTMLButtonElement>('stop').disabled = false
    say(this.#state, 'Subscribing…')
    this.#stream = new Stream({
      fetch: (path, init) => this.#api.fetch(path, init),
      query: query.toString(),
      heartbeatMs: this.#heartbeatMs,
      handlers: {
        event: (event) => this.#take(event),
        opened: (awaySeconds) => this.#opened(filters, awaySeconds),
        waiting: (why, delayMs) => {
          this.#settle()
          const text = `Not connected: ${why}. Trying again in ${(delayMs / 1000).toFixed(1)} s.`
          say(this.#state, text, 'warn')
        },
        refused: (why) => {
          this.#settle()
          say(this.#state, why, 'bad')
          byId<HTMLButtonElement>('stop').disabled = true
        },
      },
    })
  }

  #opened(filters: readonly string[], awaySeconds: number | undefined): void {
    this.#settle()
    const names = filters.filter((filter) => filter !== '').map((filter) => visible(filter, 60))
    say(this.#state, `Following ${names.join(', ')}.`, 'good')
    if (awaySeconds === undefined) return
    this.#note(
      `Connected again after ${awaySeconds.toFixed(1)} s. What was missed and is still there comes now.`,
      'good',
    )
  }

  #take(event: StreamEvent): void {
    if (event.event === 'message') {
      this.#total += 1
      this.#tree.add(event.data.topic, previewOf(event.data, VALUE_MAX))
      this.#add({ at: new Date(), id: event.id, message: event.data, note: undefined })
    } else if (event.event === 'gap') {
      const { reason, dropped } = event.data
      const count = dropped === undefined ? 'messages may be missing here' : `${dropped} messages are missing here`
      this.#note(`Gap: ${count} (${reason}).`, 'warn')
    } else if (event.event === 'status' && event.data.broker === 'disconnected') {
      this.#note('The bridge has lost its broker; messages come again when it is back.', 'warn')
    } else if (event.event === 'status' && event.data.broker === 'connected') {
      this.#note('The broker is connected.', undefined)
    }
  }

  #note(text: string, tone: 'warn' | 'good' | undefined): void {
    this.#add({ at: new Date(), id: undefined, message: undefined, note: { text, tone } })
  }

  #add(entry: Omit<Entry, 'number'>): void {
    this.#waiting.push(this.#kept.add(entry))
    // In a tab in the background timers may run once a minute.
    if (this.#waiting.length > KEPT_MAX) this.#waiting = this.#waiting.slice(-KEPT_MAX / 2)
  }

  #stop(): void {
    this.#stream?.stop()
    this.#stream = undefined
    this.#settle()
    byId<HTMLButtonElement>('stop').disabled = true
    say(this.#state, 'Stopped.')
  }

  #clear(): void {
    this.#kept.clear()
    this.#tree.clear()
    this.#waiting = []
    this.#total = this.#totalBefore = this.#shown = this.#shownBefore = 0
    this.#treeView.choose(undefined)
    this.#rate()
  }

  get #isPaused(): boolean {
    return this.#pause.getAttribute('aria-pressed') === 'true'
  }

  #setPaused(isPaused: boolean): void {
    this.#pause.setAttribute('aria-pressed', String(isPaused))
    this.#showAgain()
  }

  #showBranch(path: string | undefined): void {
    this.#branch = path
    const only = byId('only')
    only.hidden = path === undefined
    only.textContent = `Only ${visible(path ?? '', 30)} ✕`
    this.#showAgain()
  }

  /** The log anew from what is kept: all of the newest that match, not a sample. */
  #showAgain(): void {
    this.#matches = matcher(this.#search.value, this.#branch)
    this.#waiting = []
    const found = this.#kept.newest(FOUND_MAX, this.#matches)
    this.#logView.replace(found)
    const isAll = found.length < FOUND_MAX
    byId('log-note').textContent = this.#isPaused
      ? `Paused. ${isAll ? 'All' : `The newest ${FOUND_MAX}`} that match are shown, of ${this.#kept.length} kept.`
      : ''
  }

  #render(): void {
    const waiting = this.#waiting
    if (waiting.length === 0 || this.#isPaused) return
    this.#waiting = []
    const matching = waiting.filter(this.#matches)
    const notes = matching.filter(({ note }) => note !== undefined)
    const chosen = this.#sample.choose(
      matching.filter(({ note }) => note === undefined),
      performance.now(),
    )
    this.#shown += chosen.length
    this.#logView.append([...chosen, ...notes].sort((a, b) => a.number - b.number))
    const isSampled = chosen.length + notes.length < matching.length
    if (isSampled) this.#sampledAt = performance.now()
  }

  /** Once a second: rates, the tree, and what is said about them. */
  #rate(): void {
    const now = performance.now()
    const seconds = (now - this.#ratedAt) / 1000
    const rate = (this.#total - this.#totalBefore) / seconds
    const shownRate = (this.#shown - this.#shownBefore) / seconds
    this.#ratedAt = now
    this.#totalBefore = this.#total
    this.#shownBefore = this.#shown
    this.#log.setAttribute('aria-live', rate > READ_ALOUD_MAX ? 'off' : 'polite')
    byId('counts').textContent =
      this.#total === 0 ? '' : `${count(this.#total, 'message')}, ${Math.round(rate).toLocaleString()} a second`
    byId('sampling').textContent =
      now - this.#sampledAt < RATES_MS && rate > 0 && !this.#isPaused
        ? `Sampled: about ${Math.round(shownRate)} of ${Math.round(rate).toLocaleString()} a second are shown.`
        : ''
    this.#tree.updateRates(now)
    this.#treeView.render()
    byId('tree-note').textContent =
      this.#tree.unplaced === 0
        ? ''
        : `Only the first ${TOPICS_MAX} levels are here; ${count(this.#tree.unplaced, 'message')} came on others.`
  }

  #download(): void {
    const lines = this.#kept.all.map(({ id, at, message, note }) =>
      JSON.stringify(
        message === undefined ? { event: 'note', at, data: note!.text } : { event: 'message', id, at, data: message },
      ),
    )
    const url = URL.createObjectURL(
      new Blob(
        lines.map((line) => `${line}\n`),
        { type: 'application/x-ndjson' },
      ),
    )
    const link = document.createElement('a')
    link.href = url
    link.download = `causeway-${new Date().toISOString().replaceAll(':', '-')}.ndjson`
    link.click()
    setTimeout(() => URL.revokeObjectURL(url), 10_000)
  }
}

function count(number: number, noun: string): string {
  return `${number.toLocaleString()} ${noun}${number === 1 ? '' : 's'}`
}
