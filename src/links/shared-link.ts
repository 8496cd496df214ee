import type { Identity } from '../auth/identity.ts'
import type { ConnectionState } from '../mqtt/connection.ts'
import type { Link } from './link.ts'

/** The links there are, and which one a caller uses. */
export interface Links {
  linkOf(identity: Identity): Link
  readonly all: readonly Link[]
  /** Whether the broker can be reached. */
  readonly isReachable: boolean
  /** Connections to the broker that belong to no link. */
  readonly connections: readonly { role: string; state: ConnectionState }[]
  /** Resolves once the first attempts to connect have succeeded or failed. */
  attempted(): Promise<void>
  /** Ends all streams and disconnects. */
  close(): Promise<void>
}

/** One link for all callers. */
export function sharedLink(link: Link): Links {
  return {
    linkOf: () => link,
    all: [link],
    get isReachable() {
      return link.isReachable
    },
    connections: [],
    attempted: () => link.attempted(),
    close: () => link.close(),
  }
}
