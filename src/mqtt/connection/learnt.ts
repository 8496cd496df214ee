/** How the broker behaves beyond what CONNACK says, as far as the bridge has found out. */
export interface Learnt {
  /**
   * Whether markers come back: messages without meaning that the bridge publishes to itself, below
   * CAUSEWAY_MARKER_TOPIC. Without them nothing else here can be found out, and nothing shows where a read of retained
   * messages ends: it waits until none comes.
   */
  markers?: boolean
  /**
   * How a message comes that matches several filters of one connection. `told-apart`: a copy for each of them with its
   * own identifier, or one copy with all identifiers. `mixed`: anything else, such as copies without an identifier, a
   * copy with one of them alone, or a copy for each with all identifiers. Then nothing shows which copy is which.
   */
  copies?: 'told-apart' | 'mixed'
  /**
   * Whether messages of one topic come in the order in which they were published, while several are on their way.
   * `mixed`: the bridge publishes the next one only once the one before is acknowledged. Unknown counts as `kept`. So
   * does, without a trial, a broker that says in PUBACK that nobody subscribes (0x10).
   */
  order?: 'kept' | 'mixed'
  /** Whether it hands on retained messages for filters with wildcards. */
  retainedForWildcards?: boolean
  /** Retained messages may come behind what was published after the SUBSCRIBE. */
  retainedLate?: boolean
  /**
   * What becomes of messages that were sent to a session and not acknowledged, once it is connected again. `marked`:
   * they come again with DUP. `unmarked`: they come again without it, like new ones. `lost`: other messages get their
   * packet identifiers, so an acknowledgement of these is taken for theirs and they may never come again. Unknown
   * counts as `marked`, but while it is being found out sessions assume `unmarked`, and get a gap if it is `lost`.
   */
  redelivery?: 'marked' | 'unmarked' | 'lost'
  /** Whether it keeps a will that is to be retained. False: the status topic says `online` behind a crash. */
  retainedWills?: boolean
  /** Whether it forgets a session that it is told to end. False: `DELETE /sessions/{id}` is refused. */
  sessionsEnd?: boolean
  /** Characters of topics that become others on their way, such as `.` in RabbitMQ, which becomes `/`. */
  changedCharacters?: string
}
