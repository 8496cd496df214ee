import type { Message } from './message.ts'

/** How callers log in, as `CAUSEWAY_AUTH` says. */
export type AuthMode = 'none' | 'token' | 'jwt' | 'broker'

/** Credentials are variables of the shell here, so that a copied line contains none. */
const CREDENTIALS: Record<AuthMode, string> = {
  none: '',
  token: ' -H "Authorization: Bearer $TOKEN"',
  jwt: ' -H "Authorization: Bearer $TOKEN"',
  broker: ' -u "$USER_AND_PASSWORD"',
}

/** A line for a shell that publishes the same message: raw where a query can say it all, else as JSON. */
export function curlLine(base: string, message: Message, auth: AuthMode): string {
  const { topic, payload, encoding, qos = 1, retain, properties } = message
  if (encoding === 'utf8' && properties === undefined) {
    const query = `topic=${encodeURIComponent(topic).replaceAll('%2F', '/')}&qos=${qos}${retain ? '&retain=true' : ''}`
    // Unlike -d, --data-raw does not take a leading @ for the name of a file.
    return `curl${CREDENTIALS[auth]} --data-raw ${quoted(String(payload))} ${quoted(`${base}publish?${query}`)}`
  }
  const json = JSON.stringify(message)
  return (
    `curl${CREDENTIALS[auth]} -H 'Content-Type: application/json' --data-raw ${quoted(json)} ` +
    quoted(`${base}publish`)
  )
}

/** In single quotes a shell changes nothing, and only the quote itself has to be written otherwise. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}
