import type { Message } from '../mqtt/message.ts'

/** Spans for OpenTelemetry. Without it (`undefined` everywhere) nothing is done for any request or message. */
export interface Tracing {
  /** Begins the span of an HTTP request, in the trace that its headers name or in a new one. */
  request(method: string, headers: Readonly<Record<string, unknown>>): RequestTrace
  /** A message came from the broker: if its `traceparent` is sampled, a span of its own that links to it. */
  received(message: ReceivedMessage): void
  /** Exports what waits, and ends. */
  close(): Promise<void>
}

/** The span of one HTTP request. */
export interface RequestTrace {
  /** Of the trace, where it is sampled. */
  readonly traceId: string | undefined
  /**
   * Runs a publish in a span of its own that ends with its acknowledgement or error.
   * @param send gets the message with the `traceparent` of that span, in place of the one that the request came with
   */
  publish<Result>(message: Message, send: (message: Message) => Promise<Result>): Promise<Result>
  /** The answer is sent, or the connection closed before. To be called once. */
  end(answer: { route: string; status: number; isCutOff: boolean }): void
}

export interface ReceivedMessage {
  topic: string
  qos: 0 | 1 | 2
  properties?: { userProperties?: Record<string, string | string[]> } | undefined
}
