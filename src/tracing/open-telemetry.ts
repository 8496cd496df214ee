import { setTimeout } from 'node:timers/promises'
import {
  type Attributes,
  context,
  isSpanContextValid,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Tracer,
} from '@opentelemetry/api'
import { NodeSDK } from '@opentelemetry/sdk-node'
import { CausewayError } from '../errors.ts'
import type { Message } from '../mqtt/message.ts'
import type { ReceivedMessage, RequestTrace, Tracing } from './tracing.ts'

/** How long the last export may take. */
const CLOSE_MS = 2000
/** Statuses from this one on are the server's fault (OpenTelemetry's conventions for HTTP). */
const FIRST_SERVER_ERROR = 500

/**
 * Starts OpenTelemetry with what the `OTEL_*` variables say; traces only, as `/metrics` and the log have the rest. The
 * packages are optional: this module is loaded only where tracing is wanted.
 */
export function startTracing(version: string): Tracing {
  const sdk = new NodeSDK({
    serviceName: 'causeway',
    instrumentations: [],
    metricReaders: [],
    logRecordProcessors: [],
  })
  sdk.start()
  const tracer = trace.getTracer('causeway', version)
  return {
    request: (method, headers) => new HttpSpan(tracer, method, headers),
    received(message) {
      receive(tracer, message)
    },
    // A collector that does not answer must not hold up the end.
    close: () => Promise.race([sdk.shutdown(), setTimeout(CLOSE_MS, undefined, { ref: false })]),
  }
}

class HttpSpan implements RequestTrace {
  readonly traceId: string | undefined
  readonly #tracer: Tracer
  readonly #method: string
  readonly #span: Span

  constructor(tracer: Tracer, method: string, headers: Readonly<Record<string, unknown>>) {
    const parent = propagation.extract(ROOT_CONTEXT, headers)
    this.#tracer = tracer
    this.#method = method
    const attributes = { 'http.request.method': method }
    this.#span = tracer.startSpan(method, { kind: SpanKind.SERVER, attributes }, parent)
    const { traceId, traceFlags } = this.#span.spanContext()
    this.traceId = (traceFlags & TraceFlags.SAMPLED) === 0 ? undefined : traceId
  }

  async publish<Result>(message: Message, send: (message: Message) => Promise<Result>): Promise<Result> {
    const parent = trace.setSpan(context.active(), this.#span)
    const attributes = { ...attributesOf(message), 'messaging.operation.type': 'send' }
    const span = this.#tracer.startSpan('publish', { kind: SpanKind.PRODUCER, attributes }, parent)
    try {
      const result = await send(withContext(message, span))
      const { reasonCode } = result as { reasonCode?: number | null }
      if (typeof reasonCode === 'number') span.setAttribute('messaging.mqtt.reason_code', reasonCode)
      return result
    } catch (error) {
      const type = error instanceof CausewayError ? error.kind.code : 'internal'
      span.setAttribute('error.type', type)
      span.setStatus({ code: SpanStatusCode.ERROR, message: (error as Error).message })
      throw error
    } finally {
      span.end()
    }
  }

  end({ route, status, isCutOff }: { route: string; status: number; isCutOff: boolean }): void {
    this.#span.updateName(`${this.#method} ${route}`)
    this.#span.setAttributes({ 'http.route': route, 'http.response.status_code': status })
    if (isCutOff) this.#span.setAttribute('causeway.cut_off', true)
    if (status >= FIRST_SERVER_ERROR) this.#span.setStatus({ code: SpanStatusCode.ERROR })
    this.#span.end()
  }
}

/** The message with the context of a span as user properties, unless the caller set some of these names expressly. */
function withContext(message: Message, span: Span): Message {
  const carrier: Record<string, string> = {}
  propagation.inject(trace.setSpan(ROOT_CONTEXT, span), carrier)
  const userProperties = { ...message.ambient?.userProperties, ...carrier }
  return { ...message, ambient: { ...message.ambient, userProperties } }
}

function receive(tracer: Tracer, { topic, qos, properties }: ReceivedMessage): void {
  const carrier = properties?.userProperties
  if (carrier?.['traceparent'] === undefined) return
  const sender = trace.getSpanContext(propagation.extract(ROOT_CONTEXT, carrier))
  if (sender === undefined || !isSpanContextValid(sender) || (sender.traceFlags & TraceFlags.SAMPLED) === 0) return
  const attributes = { ...attributesOf({ topic, qos }), 'messaging.operation.type': 'receive' }
  const options = { kind: SpanKind.CONSUMER, root: true, attributes, links: [{ context: sender }] }
  tracer.startSpan('receive', options, ROOT_CONTEXT).end()
}

function attributesOf({ topic, qos }: Pick<Message, 'topic' | 'qos'>): Attributes {
  return { 'messaging.system': 'mqtt', 'messaging.destination.name': topic, 'messaging.mqtt.qos': qos }
}
