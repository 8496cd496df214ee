import type { MemoryShare } from '../memory/account.ts'
import type { RequestTrace } from '../tracing/tracing.ts'
import type { Identity } from './identity.ts'

/** Who sent a request, and the memory that may be held for it. Every request that passed authentication is one. */
export interface Caller {
  identity: Identity
  /** The share of the identity or, where nobody says who they are, of the client's address. */
  share: MemoryShare
  /** The span of the request, while traces are recorded. */
  trace?: RequestTrace | undefined
}
