/** A message as streams deliver it and as `POST /publish` takes it. */
export interface Message {
  topic: string
  payload: unknown
  encoding?: 'utf8' | 'base64' | 'json'
  qos?: 0 | 1 | 2
  retain?: boolean
  redelivered?: boolean
  properties?: Record<string, unknown>
}

/** The problem documents of the bridge (RFC 9457). */
export interface Problem {
  title?: string
  detail?: string
  code?: string
  retryable?: boolean
  mqtt?: { reasonCode: number; reason: string }
  errors?: { pointer?: string; detail?: string }[]
}

/** The whole of a problem in one line. */
export function problemText({ title, detail, code, mqtt }: Problem): string {
  const broker = mqtt === undefined ? '' : ` · the broker says: ${mqtt.reason} (${mqtt.reasonCode})`
  const what = `${title ?? 'the answer is no problem document'}${code ? ` (${code})` : ''}`
  return `${what}${detail ? `: ${detail}` : ''}${broker}`
}
