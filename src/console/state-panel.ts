import { type Api, problemIn, type Settings } from './api.ts'
import { byId, element, say } from './element.ts'
import { type Figures, latencyBetween, rateBetween, readFigures } from './figures.ts'
import { problemText } from './message.ts'
import { Plot } from './plot.ts'

const POLL_MS = 2000
/** Rows of a table. More would be neither read nor fast. */
const ROWS_MAX = 100

const RATES = [
  { name: 'causeway_publish_messages_total', label: 'published', colour: '--plot-1' },
  { name: 'causeway_received_messages_total', label: 'received', colour: '--plot-2' },
  { name: 'causeway_stream_events_total', label: 'events to readers', colour: '--plot-3' },
] as const
const LATENCIES = [
  { quantile: 0.5, label: 'half', colour: '--plot-1' },
  { quantile: 0.95, label: '95 %', colour: '--plot-3' },
] as const

const FIGURES: readonly (readonly [name: string, label: string])[] = [
  ['causeway_streams_open', 'Open streams'],
  ['causeway_subscription_filters', 'Filters subscribed to'],
  ['causeway_sessions_open', 'Open sessions'],
  ['causeway_session_unacknowledged', 'Unacknowledged in sessions'],
  ['causeway_publish_in_flight', 'Publishes in flight'],
  ['causeway_stream_gaps_total', 'Gaps since the start'],
  ['causeway_held_bytes', 'Memory held for callers'],
]

/** What the broker said when it was connected, in words. What is new has its own name. */
const LIMIT_NAMES: Record<string, string> = {
  receiveMaximum: 'Unacknowledged at most',
  maximumPacketSize: 'Largest packet, in bytes',
  maximumQoS: 'Highest QoS',
  retain: 'Retained messages',
  wildcards: 'Wildcards in filters',
  sharedSubscriptions: 'Shared subscriptions',
  subscriptionIdentifiers: 'Subscription identifiers',
  sessionExpiryS: 'Keeps sessions, in seconds',
}

/** What the bridge has found out about the broker. */
const LEARNT_NAMES: Record<string, string> = {
  markers: 'Markers come back',
  order: 'Order of messages',
  copies: 'Copies where filters overlap',
  retainedForWildcards: 'Retained messages by wildcard',
  retainedLate: 'Retained messages may come late',
  redelivery: 'Unacknowledged messages come again',
  retainedWills: 'Keeps retained wills',
  sessionsEnd: 'Forgets sessions that are ended',
  changedCharacters: 'Changes characters of topics',
}

type Json = Record<string, unknown>

/** How the bridge and its broker are, read anew every two seconds while the page is in view. */
export class StatePanel {
  readonly #api: Api
  readonly #settings: Settings
  readonly #rates = new Plot(byId('rates-plot'), RATES)
  readonly #latency = new Plot(byId('latency-plot'), LATENCIES)
  readonly #tables = new Map<string, HTMLElement>()
  #before: Figures | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  /** Counts the calls of `start`, so that an answer to an earlier one does not go on beside a later one. */
  #round = 0

  constructor(api: Api, settings: Settings) {
    this.#api = api
    this.#settings = settings
    if (settings.operation) return
    this.#note(
      'Metrics and the state of the broker are on the admin port (CAUSEWAY_ADMIN_PORT), which this page does not call.',
    )
  }

  /** Called again after a login: begins anew. */
  start(): void {
    clearTimeout(this.#timer)
    this.#round += 1
    void this.#poll(this.#round)
  }

  async #poll(round: number): Promise<void> {
    if (!document.hidden) {
      try {
        const isWelcome = await this.#read()
        // Whoever is refused would be refused again, and each attempt counts against the limits of the bridge.
        if (!isWelcome) return this.#broker('Sign in to see the state', 'warn')
      } catch {
        this.#broker('The bridge cannot be reached', 'bad')
        this.#before = undefined
      }
    }
    if (round === this.#round) this.#timer = setTimeout(() => void this.#poll(round), POLL_MS)
  }

  /** @returns false where the credentials are not accepted */
  async #read(): Promise<boolean> {
    const sessions = await this.#api.fetch('sessions')
    if (sessions.status === 401) return false
    if (sessions.status !== 200) {
      await this.#refused(sessions)
      return true
    }
    byId('state-note').hidden = this.#settings.operation
    this.#showSessions((await sessions.json()) as Json[])
    if (this.#settings.operation) {
      const [ready, metrics] = await Promise.all([this.#api.fetch('readyz?verbose'), this.#api.fetch('metrics')])
      if (ready.status === 200 || ready.status === 503) this.#showBroker((await ready.json()) as Json, ready.status)
      if (metrics.status === 200) this.#showFigures(readFigures(await metrics.text(), Date.now()))
    } else {
      this.#broker('Bridge reached', 'good')
    }
    if (this.#settings.push) {
      const pushes = await this.#api.fetch('push')
      if (pushes.status === 200) this.#showPushes((await pushes.json()) as Json[])
    }
    return true
  }

  async #refused(answer: Response): Promise<void> {
    this.#broker(`The bridge answers ${answer.status}`, 'bad')
    this.#note(problemText(await problemIn(answer)))
  }

  #note(text: string): void {
    const note = byId('state-note')
    note.hidden = false
    note.textContent = text
  }

  #broker(text: string, tone: 'good' | 'warn' | 'bad'): void {
    say(byId('broker'), text, tone)
  }

  #showBroker(ready: Json, status: number): void {
    const { broker = {}, connections = [] } = ready as { broker?: Json; connections?: Json[] }
    const isReady = status === 200
    const protocol = broker['protocol'] === undefined ? '' : `, MQTT ${String(broker['protocol'])}`
    this.#broker(isReady ? `Broker connected${protocol}` : 'Broker not connected', isReady ? 'good' : 'bad')
    const factsOf = (facts: unknown, names: Record<string, string>) =>
      Object.entries((facts ?? {}) as Json).map(([name, value]) => [names[name] ?? name, textOf(value)] as const)
    fill(byId('broker-facts'), [
      ['Address', textOf(broker['address'] ?? broker['addresses'])],
      ...(broker['protocol'] === undefined ? [] : [['Protocol', `MQTT ${textOf(broker['protocol'])}`] as const]),
      ...(isReady ? [] : [['Not ready', textOf(ready['detail'])] as const]),
      ...factsOf(broker['limits'], LIMIT_NAMES),
      ...factsOf(broker['learnt'], LEARNT_NAMES),
    ])
    this.#table(
      'Connections to the broker',
      ['for', 'state', 'protocol', 'why not'],
      connections.map((each) => [
        textOf(each['role']),
        textOf(each['state']),
        `MQTT ${textOf(each['protocol'])}`,
        textOf(each['reason'] ?? ''),
      ]),
    )
  }

  #showSessions(sessions: Json[]): void {
    this.#table(
      'Your open sessions',
      ['name', 'filters', 'reader', 'acknowledges', 'unacknowledged'],
      sessions.map((each) => [
        textOf(each['name']),
        textOf(each['filters']),
        each['connected'] ? 'connected' : 'away',
        textOf(each['ack']),
        textOf(each['unacknowledged']),
      ]),
    )
  }

  #showPushes(pushes: Json[]): void {
    this.#table(
      'Pushes',
      ['name', 'state', 'since', 'waiting', 'last error'],
      pushes.map((each) => {
        const error = each['lastError'] as { reason?: string; at?: string } | undefined
        return [
          textOf(each['name']),
          textOf(each['state']),
          timeOf(each['since']),
          textOf(each['waiting']),
          error === undefined ? '' : `${error.reason ?? ''} (${timeOf(error.at)})`,
        ]
      }),
    )
  }

  #showFigures(now: Figures): void {
    fill(
      byId('figures'),
      FIGURES.filter(([name]) => now.sums.has(name) || !name.endsWith('_total')).map(([name, label]) => {
        const value = now.sums.get(name) ?? 0
        return [label, name.endsWith('_bytes') ? `${(value / 1_048_576).toFixed(2)} MiB` : value.toLocaleString()]
      }),
    )
    const before = this.#before
    this.#before = now
    if (before === undefined) return
    const rates = RATES.map(({ name }) => rateBetween(before, now, name))
    const latencies = LATENCIES.map(({ quantile }) => latencyBetween(before, now, quantile))
    this.#rates.add(now.at, rates)
    this.#latency.add(
      now.at,
      latencies.map((value) => value ?? null),
    )
    caption(
      'rates-caption',
      'Throughput, a second: ',
      RATES,
      rates.map((rate) => rounded(rate)),
    )
    caption(
      'latency-caption',
      'Time until the broker acknowledges: ',
      LATENCIES,
      latencies.map((value) => (value === undefined ? '–' : `within ${rounded(value)} ms`)),
    )
  }

  /** Shows a table, or none where there are no rows. */
  #table(title: string, heads: readonly string[], rows: readonly (readonly string[])[]): void {
    let place = this.#tables.get(title)
    if (place === undefined) {
      place = element('div', { class: 'table', tabindex: 0, role: 'region', 'aria-label': title })
      this.#tables.set(title, place)
      byId('tables').append(place)
    }
    place.hidden = rows.length === 0
    const more = rows.length - ROWS_MAX
    const table = element(
      'table',
      {},
      element('caption', { text: more > 0 ? `${title} (${more} more are not shown)` : title }),
      element('thead', {}, element('tr', {}, ...heads.map((text) => element('th', { scope: 'col', text })))),
      element(
        'tbody',
        {},
        ...rows.slice(0, ROWS_MAX).map((cells) => element('tr', {}, ...cells.map((text) => element('td', { text })))),
      ),
    )
    place.replaceChildren(table)
  }
}

function caption(
  id: string,
  title: string,
  series: readonly { label: string; colour: string }[],
  values: string[],
): void {
  byId(id).replaceChildren(
    title,
    ...series.map(({ label, colour }, index) => {
      const key = element('span', { class: 'key', text: `${label} ${values[index]}` })
      key.style.setProperty('--colour', `var(${colour})`)
      return key
    }),
  )
}

function fill(list: HTMLElement, facts: readonly (readonly [name: string, value: string])[]): void {
  list.replaceChildren(...facts.flatMap(([name, text]) => [element('dt', { text: name }), element('dd', { text })]))
}

function rounded(value: number): string {
  return value >= 10 ? Math.round(value).toLocaleString() : value.toFixed(value >= 1 ? 1 : 2).replace(/\.?0+$/, '')
}

function timeOf(value: unknown): string {
  return new Date(String(value)).toLocaleString()
}

function textOf(value: unknown): string {
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (Array.isArray(value)) return value.map(textOf).join(', ')
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value ?? '–')
}
