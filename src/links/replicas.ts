import type { Cluster } from '../cluster/cluster.ts'
import type { Answer, Question } from '../cluster/messages.ts'
import type { Acknowledged, NotAcknowledged, SessionView } from '../stream/sessions/sessions.ts'
import type { Link } from './link.ts'

/** A question to delete a session is not carried out later: the session may have been opened again since. */
const FORGET_WITHIN_MS = 10_000

export type Replicas = ReturnType<typeof createReplicas>

/**
 * Does with durable sessions what reached another replica than the one that has them: the others are asked. Whoever
 * calls has checked that the session is the caller's own.
 */
export function createReplicas(cluster: Pick<Cluster, 'ask'>, links: () => readonly Link[]) {
  /** With CAUSEWAY_AUTH=broker each caller has a link, and the session is open on that of its owner. */
  const linkWith = (id: string): Link | undefined => links().find(({ sessions }) => sessions.has(id))

  return {
    /** What another replica asked. */
    async answer(question: Question): Promise<Answer | undefined> {
      const { session } = question
      const link = linkWith(session)
      switch (question.about) {
        case 'acknowledge': {
          const result = link?.sessions.acknowledge(session, question.event)
          return typeof result === 'string' ? { problem: result } : result
        }
        case 'forget': {
          if (link === undefined || Math.abs(Date.now() - question.at) > FORGET_WITHIN_MS) return undefined
          return { existed: await link.sessions.forget(session) }
        }
        case 'reader': {
          const views = links().map(({ sessions }) => sessions.view(session, question.event))
          const view = views.find(({ isOpen }) => isOpen) ?? views.find(({ wasTakenOver }) => wasTakenOver)
          return view && { ...view }
        }
      }
    },

    /** Acknowledges at the replica that has the event, here first. */
    async acknowledge(link: Link, id: string, event: string): Promise<Acknowledged | NotAcknowledged> {
      const here = link.sessions.acknowledge(id, event)
      if (typeof here !== 'string') return here
      // A session may still be open here though its reader has gone on at another replica.
      const isOpenHere = here !== 'session-not-open'
      if (isOpenHere && link.sessions.find(id)!.connected) return here
      const answers = (await cluster.ask({ about: 'acknowledge', session: id, event }, isAcknowledged)) ?? []
      const acknowledged = answers.find(isAcknowledged)
      if (acknowledged !== undefined) return acknowledged
      const problems = answers.map(({ problem }) => problem).filter(isNotAcknowledged)
      return problems[0] ?? here
    },

    /**
     * Makes the broker forget the session where it is open, so that the replica that has it does not start it again,
     * or else from here. Resolves with whether the broker had it.
     */
    async forget(link: Link, id: string): Promise<boolean> {
      if (!link.sessions.find(id)?.connected) {
        const answers = await cluster.ask({ about: 'forget', session: id, at: Date.now() }, hasExisted)
        if (answers?.some(hasExisted)) {
          // It may be open here still, without its reader.
          if (link.sessions.has(id)) await link.sessions.forget(id)
          return true
        }
      }
      return link.sessions.forget(id)
    },

    /** What the other replicas know about a reader of a session; undefined where they cannot be asked. */
    async views(id: string, event: string): Promise<SessionView[] | undefined> {
      const answers = await cluster.ask({ about: 'reader', session: id, event }, isTakenByAnother)
      return answers?.filter(isView)
    },
  }
}

function isAcknowledged(answer: Answer): answer is Acknowledged {
  return typeof answer['acknowledged'] === 'number' && typeof answer['unacknowledged'] === 'number'
}

function isNotAcknowledged(problem: unknown): problem is NotAcknowledged {
  return problem === 'event-unknown' || problem === 'acknowledges-itself'
}

function hasExisted({ existed }: Answer): boolean {
  return existed === true
}

function isView(answer: Answer): answer is SessionView & Answer {
  return [answer['isOpen'], answer['isTaken'], answer['isReader'], answer['wasTakenOver']].every(
    (value) => typeof value === 'boolean',
  )
}

function isTakenByAnother(answer: Answer): boolean {
  return isView(answer) && answer.isTaken && !answer.isReader
}
