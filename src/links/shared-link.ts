import type { Identity } from '../auth/identity.ts'
import type { Link } from './link.ts'
import type { ConnectionState } from '../mqtt/connection.ts'

/** The links there are, and whose they are. */
export interface Links {
  of(identity: Identity): Link
  readonly all: readonly Link[]
  /** Whether the broker is there. */
  readonly isReachable: boolean
  /** Those that are no link's. */
  readonly connections: readonly { role: string; state: ConnectionState }[]
  /** Resolves once the first attempt to connect is over. */
  attempted(): Promise<void>
  close(): Promise<void>
}

/** One link for everyone. */
export function sharedLink(link: Link): Links {
  return {
    of: () => link,
    all: [link],
    get isReachable() {
      return link.isReachable
    },
    connections: [],
    attempted: () => link.attempted(),
    close: () => link.close(),
  }
}
