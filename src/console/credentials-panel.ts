import { Api, problemIn, type Settings, urlOf } from './api.ts'
import { byId, say } from './element.ts'
import { problemText } from './message.ts'

const HINTS: Record<Settings['auth'], string> = {
  none: '',
  token: 'A token of the bridge’s token file.',
  jwt: 'A JSON Web Token.',
  broker: 'USER:PASSWORD, or a token, as the broker accepts it.',
}
const KEPT_HERE = 'It stays in the memory of this tab and is sent with each request.'

/** The box for the token. What is in it is used at once. Signing in checks it, and keeps it in a cookie if asked. */
export class CredentialsPanel {
  readonly api: Api
  readonly #settings: Settings
  readonly #onSignedIn: () => void
  readonly #form = byId<HTMLFormElement>('credentials')
  readonly #token = byId<HTMLInputElement>('token')
  readonly #keep = byId<HTMLInputElement>('keep')
  readonly #answer = byId('credentials-answer')
  readonly #signOut = byId<HTMLButtonElement>('sign-out')
  #isSigningIn = false

  constructor(settings: Settings, onSignedIn: () => void) {
    this.#settings = settings
    this.#onSignedIn = onSignedIn
    this.api = new Api(
      () => this.#authorization(),
      (answer) => this.#refused(answer),
    )
    if (settings.auth === 'none') return
    this.#form.hidden = false
    byId('keep-field').hidden = !settings.cookie
    byId('credentials-hint').textContent = `${HINTS[settings.auth]} ${KEPT_HERE}`
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault()
      this.#signInOnce()
    })
    this.#token.addEventListener('change', () => this.#signInOnce())
    this.#signOut.addEventListener('click', () => void this.#end())
  }

  /** Whether requests have a chance: without a token only where none is needed or a cookie is accepted. */
  async start(): Promise<void> {
    if (this.#settings.auth !== 'none' && !this.#settings.cookie) return
    if (this.#settings.auth === 'none') return this.#onSignedIn()
    if ((await this.api.read('sessions')) === undefined) return
    say(this.#answer, 'Signed in by a cookie.', 'good')
    this.#signOut.hidden = false
    this.#onSignedIn()
  }

  #authorization(): string | undefined {
    const text = this.#token.value.trim()
    if (text === '' || this.#settings.auth === 'none') return undefined
    const isBasic = this.#settings.auth === 'broker' && text.includes(':') && !/^(bearer|basic) /i.test(text)
    if (!isBasic) {
      // Other characters cannot be in a header.
      if (/[^\x20-\x7e]/.test(text)) return undefined
      return /^(bearer|basic) /i.test(text) ? text : `Bearer ${text}`
    }
    return `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(text)))}`
  }

  /** The Enter key changes the box and submits the form. Two refused attempts would count as two guesses. */
  #signInOnce(): void {
    if (this.#isSigningIn) return
    this.#isSigningIn = true
    void this.#signIn().finally(() => (this.#isSigningIn = false))
  }

  async #signIn(): Promise<void> {
    if (this.#authorization() === undefined) return
    const answer = await this.api.fetch('sessions').catch(() => undefined)
    if (answer === undefined) return say(this.#answer, 'The bridge does not answer.', 'bad')
    if (answer.status === 401) return
    if (answer.status !== 200) return this.#failed(answer)
    say(this.#answer, 'Accepted.', 'good')
    if (this.#keep.checked) await this.#keepInCookie()
    this.#signOut.hidden = false
    this.#onSignedIn()
  }

  async #keepInCookie(): Promise<void> {
    const answer = await this.api.fetch('cookie', { method: 'POST' })
    if (answer.status !== 204) return this.#failed(answer)
    // The browser may have thrown the cookie away, for example as it needs HTTPS.
    const isKept = (await fetch(urlOf('sessions'), { cache: 'no-store' })).status === 200
    if (!isKept) return say(this.#answer, 'Accepted. The browser did not keep the cookie; it needs HTTPS.', 'warn')
    this.#token.value = ''
    say(this.#answer, 'Kept in a cookie that no script can read.', 'good')
  }

  async #failed(answer: Response): Promise<void> {
    say(this.#answer, `${answer.status} ${problemText(await problemIn(answer))}`, 'bad')
  }

  async #end(): Promise<void> {
    if (this.#settings.cookie) await this.api.fetch('cookie', { method: 'DELETE' }).catch(() => {})
    this.#token.value = ''
    this.#signOut.hidden = true
    say(this.#answer, 'Signed out.')
    this.#token.focus()
  }

  #refused(answer: Response): void {
    const why = /error_description="([^"]*)"/.exec(answer.headers.get('www-authenticate') ?? '')?.[1]
    const isSent = this.#authorization() !== undefined
    const unsent = this.#token.value === '' ? 'a token is needed' : 'this is no token'
    say(this.#answer, `401: ${isSent ? (why ?? 'the token is not accepted') : unsent}.`, 'bad')
  }
}
