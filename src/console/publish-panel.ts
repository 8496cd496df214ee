import { type Api, problemIn, type Settings, urlOf } from './api.ts'
import { curlLine } from './curl.ts'
import { byId, element, say } from './element.ts'
import { type Message, problemText } from './message.ts'
import { clock, visible } from './visible.ts'

const HISTORY_MAX = 50
/** Longest time that a publish waits for a subscription of the page. */
const SUBSCRIBED_MS = 1000
/** Larger payloads are not kept for sending again, so that the history stays small. */
const KEPT_PAYLOAD_MAX = 10_000

type Fields = Record<(typeof FIELDS)[number], string> & { retain: boolean; isText: boolean }

const FIELDS = [
  'topic',
  'payload',
  'encoding',
  'publish-qos',
  'content-type',
  'expiry',
  'reply-to',
  'correlation',
  'user-properties',
] as const

/** The form that publishes, the answer to it, the same as a line for a shell, and what was sent before. */
export class PublishPanel {
  readonly #api: Api
  readonly #settings: Settings
  readonly #subscribed: () => Promise<void>
  readonly #answer = byId('answer')
  readonly #body = byId('answer-body')
  readonly #curl = byId('curl')
  readonly #history = byId<HTMLOListElement>('history')
  readonly #form = byId<HTMLFormElement>('publish-form')

  /** @param subscribed settles when what the user follows is subscribed to, if that is going on */
  constructor(api: Api, settings: Settings, subscribed: () => Promise<void>) {
    this.#subscribed = subscribed
    this.#api = api
    this.#settings = settings
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault()
      void this.#publish()
    })
    this.#form.addEventListener('input', () => this.#showCurl())
    this.#form.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) this.#form.requestSubmit()
    })
    byId('copy').addEventListener('click', () => void this.#copy())
    this.#showCurl()
  }

  async #publish(): Promise<void> {
    const fields = this.#fields()
    let status = '–'
    try {
      const message = messageOf(fields)
      say(this.#answer, 'Waiting for the broker…')
      // Who has just asked to follow wants to see the message.
      await Promise.race([this.#subscribed(), new Promise((resolve) => setTimeout(resolve, SUBSCRIBED_MS))])
      const startedAt = performance.now()
      const answer = await this.#api.fetch('publish', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(message),
      })
      status = String(answer.status)
      await this.#show(answer, Math.round(performance.now() - startedAt))
    } catch (error) {
      const text = error instanceof InvalidField ? error.message : 'No answer: the bridge cannot be reached.'
      say(this.#answer, text, 'bad')
      byId('answer-body-details').hidden = true
      if (error instanceof InvalidField) return
    }
    this.#remember(fields, status)
  }

  async #show(answer: Response, milliseconds: number): Promise<void> {
    const copy = answer.clone()
    const name = { 200: 'OK', 202: 'Accepted' }[answer.status]
    const text = name === undefined ? problemText(await problemIn(answer)) : resultText((await answer.json()) as Result)
    const status = `${answer.status}${name === undefined ? '' : ` ${name} ·`}`
    say(this.#answer, `${status} ${text} · ${milliseconds} ms`, name === undefined ? 'bad' : 'good')
    byId('answer-body-details').hidden = false
    this.#body.textContent = await copy.text()
  }

  #fields(): Fields {
    const texts = Object.fromEntries(FIELDS.map((id) => [id, byId<HTMLInputElement>(id).value]))
    const isChecked = (id: string) => byId<HTMLInputElement>(id).checked
    return { ...texts, retain: isChecked('retain'), isText: isChecked('is-text') } as Fields
  }

  #fill(fields: Fields): void {
    for (const id of FIELDS) byId<HTMLInputElement>(id).value = fields[id]
    byId<HTMLInputElement>('retain').checked = fields.retain
    byId<HTMLInputElement>('is-text').checked = fields.isText
    this.#showCurl()
    byId('topic').focus()
  }

  #showCurl(): void {
    try {
      this.#curl.textContent = curlLine(urlOf('.'), messageOf(this.#fields()), this.#settings.auth)
    } catch (error) {
      this.#curl.textContent = (error as Error).message
    }
  }

  async #copy(): Promise<void> {
    const button = byId('copy')
    try {
      await navigator.clipboard.writeText(this.#curl.textContent)
      button.textContent = 'Copied'
    } catch {
      // Without HTTPS there is no clipboard; the line is selected instead.
      getSelection()?.selectAllChildren(this.#curl)
      button.textContent = 'Selected'
    }
    setTimeout(() => (button.textContent = 'Copy'), 2000)
  }

  #remember(fields: Fields, status: string): void {
    const again = element('button', { type: 'button', text: 'Use again' })
    const isKept = fields.payload.length <= KEPT_PAYLOAD_MAX
    again.disabled = !isKept
    if (isKept) again.addEventListener('click', () => this.#fill(fields))
    this.#history.prepend(
      element(
        'li',
        {},
        element('time', { text: clock(new Date()) }),
        element('span', { class: 'tag', text: status, 'data-tone': status.startsWith('2') ? 'good' : 'bad' }),
        element('span', { class: 'name', text: `${visible(fields.topic, 100)} ${visible(fields.payload, 60)}` }),
        again,
      ),
    )
    while (this.#history.childElementCount > HISTORY_MAX) this.#history.lastElementChild!.remove()
  }
}

/** The answer to a publish that succeeded. */
interface Result {
  qos: number
  /** As all of them, null where the broker does not say that. */
  reasonCode: number | null
  reason: string | null
  matchedSubscribers: boolean | null
}

function resultText({ qos, reasonCode, reason, matchedSubscribers }: Result): string {
  const matched = { true: ' · somebody subscribes to it', false: ' · nobody subscribes to it', null: '' }
  const who = matched[`${matchedSubscribers}`]
  if (reason !== null) return `the broker says: ${reason}${reasonCode === null ? '' : ` (${reasonCode})`}${who}`
  return qos === 0
    ? 'sent; at QoS 0 the broker does not answer'
    : `acknowledged; over MQTT 3.1.1 the broker gives no reason${who}`
}

class InvalidField extends Error {}

/**
 * The message that the fields describe.
 * @throws InvalidField
 */
function messageOf(fields: Fields): Message {
  const { topic, payload, encoding, retain } = fields
  const properties = propertiesOf(fields)
  return {
    topic,
    payload: encoding === 'json' ? checkedJson(payload) : payload,
    encoding: encoding === 'base64' ? 'base64' : 'utf8',
    qos: Number(fields['publish-qos']) as 0 | 1 | 2,
    retain,
    ...(Object.keys(properties).length > 0 && { properties }),
  }
}

/** The same text: parsed and written again, long numbers would lose digits. */
function checkedJson(text: string): string {
  try {
    JSON.parse(text)
    return text
  } catch {
    throw new InvalidField('The payload is no JSON; choose text, or correct it.')
  }
}

function secondsOf(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new InvalidField(`Expires after: expected a number of seconds, got ${text}`)
  return Number(text)
}

function propertiesOf(fields: Fields): Record<string, unknown> {
  // A map, as a property of an object cannot have every name.
  const userProperties = new Map<string, string[]>()
  for (const line of fields['user-properties'].split('\n')) {
    if (line.trim() === '') continue
    const [, name, value] = /^([^:]+):\s*(.*)$/.exec(line) ?? []
    if (name === undefined) throw new InvalidField(`User properties: expected name: value, got ${line}`)
    userProperties.set(name, [...(userProperties.get(name) ?? []), value!])
  }
  return {
    ...(fields['content-type'] && { contentType: fields['content-type'] }),
    ...(fields['reply-to'] && { responseTopic: fields['reply-to'] }),
    ...(fields.correlation && { correlationData: fields.correlation }),
    ...(fields.expiry && { messageExpiryInterval: secondsOf(fields.expiry) }),
    ...(fields.isText && { payloadFormatIndicator: true }),
    ...(userProperties.size > 0 && { userProperties: Object.fromEntries(userProperties) }),
  }
}
