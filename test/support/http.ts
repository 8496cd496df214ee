import type { Bridge } from './bridge.ts'

export interface Answer {
  status: number
  headers: Headers
  // oxlint-disable-next-line no-explicit-any -- tests look into whatever comes
  body: any
}

async function answerOf(response: Response): Promise<Answer> {
  const text = await response.text()
  const isJson = /[/+]json/.test(response.headers.get('content-type') ?? '')
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text }
}

/** Sends any request. */
export async function send(
  bridge: Pick<Bridge, 'url'>,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string,
): Promise<Answer> {
  return answerOf(await fetch(bridge.url + path, { method, headers, ...(body !== undefined && { body }) }))
}

export async function get(bridge: Bridge, path: string, headers: Record<string, string> = {}): Promise<Answer> {
  return answerOf(await fetch(bridge.url + path, { headers }))
}

/** `POST /publish` with a message as JSON. */
export async function publish(bridge: Bridge, message: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  return answerOf(
    await fetch(`${bridge.url}/publish`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(message),
    }),
  )
}

/** `POST /publish` with the payload as the body; topic, QoS and the rest are in the query. */
export async function publishRaw(
  bridge: Bridge,
  query: string,
  body: string | Uint8Array,
  headers: Record<string, string> = {},
): Promise<Answer> {
  return answerOf(await fetch(`${bridge.url}/publish?${query}`, { method: 'POST', body: body as string, headers }))
}
