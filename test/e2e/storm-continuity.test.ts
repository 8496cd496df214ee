import { describe, expect, test } from 'vitest'
import { breach, type Happening } from '../support/storm/continuity.ts'
import { Ledger, type Outcome } from '../support/storm/ledger.ts'

const PUBLISHED = 9

/** One topic with nine publications, all acknowledged but those named. */
function ledgerOf(qos: 0 | 1 | 2, outcomes: Record<number, Outcome> = {}): Ledger {
  const ledger = new Ledger([{ name: 't', qos, retain: false, by: 'mqtt' }])
  for (let sequence = 1; sequence <= PUBLISHED; sequence += 1) {
    ledger.begin('t').settle(outcomes[sequence] ?? 'acknowledged')
  }
  return ledger
}

/** `3` is a live message, `r3` a retained one; `<3`, `>3` and `+3` begin at 3: a fresh stream, a resumed one, a gap. `restart` is one of the broker. */
function historyOf(story: string, qos: number): Happening[] {
  let restarts = 0
  return story.split(' ').flatMap((word): Happening | [] => {
    if (word === 'restart') {
      restarts += 1
      return []
    }
    const sequence = Number(/\d+$/.exec(word)?.[0])
    const begun = new Map([['t', sequence]])
    if (word.startsWith('<')) return { kind: 'opened', resumed: false, begun }
    if (word.startsWith('>')) return { kind: 'opened', resumed: true, begun }
    if (word.startsWith('away')) return { kind: 'status', connected: false, begun }
    if (word.startsWith('back')) return { kind: 'status', connected: true, begun }
    const gap = /^(overrun|unknown-id|broker-session-lost|subscription-refused)\d/.exec(word)
    if (gap !== null) return { kind: 'gap', reason: gap[1]!, begun }
    return {
      kind: 'message',
      topic: 't',
      sequence,
      qos,
      retained: word.startsWith('r'),
      id: undefined,
      restarts: { begun: restarts, over: restarts },
    }
  })
}

describe('what a follower saw is no breach:', () => {
  test.each<[string, string, (0 | 1 | 2)?, Record<number, Outcome>?]>([
    ['all in order', '<0 1 2 3'],
    ['from wherever it began', '<4 4 5 6'],
    ['a message that was on its way when it began', '<4 3 4 5'],
    ['retained, then what follows', '<4 r4 5 6'],
    ['on across a reconnect', '<0 1 2 >4 3 4'],
    ['without what a gap announces', '<0 1 overrun5 6 7'],
    ['without what was published until the broker was back', '<0 1 away2 broker-session-lost4 back6 7'],
    ['a redelivery behind the reconnect', '<0 1 2 3 away3 back3 2 3 4'],
    ['a redelivery while one connection of several is back', '<0 1 2 3 away3 2 3 4 back5 5'],
    ['a QoS 2 message that a gap covers behind a newer one', '<0 1 away1 broker-session-lost3 5 3 4 back5 6', 2],
    ['a QoS 1 message that a gap covers behind a newer one', '<0 1 away1 broker-session-lost3 5 3 4 back5 6', 1],
    ['a redelivery at QoS 2 behind a restart', '<0 1 2 3 away3 restart back3 2 3 4', 2],
    ['without what may not have been published', '<0 1 3', 1, { 2: 'unknown' }],
    ['QoS 0 that nobody knew of, lost while the broker was away', '<0 away2 back4 5 6', 0],
  ])('%s', (_what, story, qos = 1, outcomes = {}) => {
    expect(breach(historyOf(story, qos), ledgerOf(qos, outcomes))).toBeUndefined()
  })
})

describe('what a follower saw is a breach:', () => {
  test.each<[string, string, string, (0 | 1 | 2)?, Record<number, Outcome>?]>([
    ['a hole', '<0 1 3', 't 3 came behind 1, without 2'],
    ['a hole at the start', '<2 4', 't 4 came behind nothing, without 3'],
    ['a hole behind what was retained', '<4 r4 6', 't 6 came behind 4, without 5'],
    ['a hole across a reconnect', '<0 1 2 >4 4', 't 4 came behind 2, without 3'],
    ['a hole that was begun behind the gap', '<0 1 overrun5 7', 't 7 came behind 1, without 6'],
    ['a hole behind the broker’s return', '<0 1 away2 broker-session-lost4 back6 8', 't 8 came behind 1, without 7'],
    ['a hole while the broker was away, without a gap', '<0 1 away1 back3 4', 't 4 came behind 1, without 2'],
    ['a repeat', '<0 1 2 2', 't 2 came again, behind 2, without a reconnect'],
    ['a repeat across a reconnect of its own', '<0 1 2 >2 2', 't 2 came again, behind 2, without a reconnect'],
    ['an older message behind a newer one', '<0 1 3 2', 't 3 came behind 1, without 2'],
    ['an older message behind a retained one', '<4 r4 3', 't 3 came again, behind 4, without a reconnect'],
    ['a redelivery with a hole', '<0 1 2 3 4 away4 back4 2 4', 't 4 came behind a redelivery of 2, without 3'],
    [
      'a redelivery that does not reach what was last',
      '<0 1 2 3 4 away4 back4 2 5',
      't 5 came behind a redelivery of 2, without 3',
    ],
    ['a repeat at QoS 2, even behind a reconnect', '<0 1 2 away2 back2 2', 't 2 came again, behind 2, at QoS 2', 2],
    [
      'a QoS 2 message that a gap covers, twice',
      '<0 1 away1 broker-session-lost3 5 3 3',
      't 3 came again, behind 5, at QoS 2',
      2,
    ],
    [
      'an older message behind a retained one and a gap',
      '<4 r5 away5 broker-session-lost6 3',
      't 3 came again, behind 5, at QoS 2',
      2,
    ],
    [
      'a QoS 0 message that a gap covers behind a newer one',
      '<0 1 away1 broker-session-lost3 5 3',
      't 3 came again, behind 5, at QoS 0',
      0,
    ],
    [
      'a redelivery at QoS 2 of what came behind the restart',
      '<0 1 away1 restart back1 2 3 away3 back3 3',
      't 3 came again, behind 3, at QoS 2',
      2,
    ],
    [
      'a redelivery at QoS 2 with a hole behind a restart',
      '<0 1 2 3 4 away4 restart back4 2 4',
      't 4 came behind a redelivery of 2, without 3',
      2,
    ],
    [
      'a repeat at QoS 2 of a redelivery',
      '<0 1 2 3 away3 restart back3 2 3 3',
      't 3 came again, behind a redelivery of 3',
      2,
    ],
    [
      'what was not sent',
      '<0 1 2',
      't 2 came, though its publisher was told that it was not sent',
      1,
      { 2: 'refused' },
    ],
    ['what was never published', '<0 10', 't 10 was never published'],
    ['QoS 0 that had been seen, lost without a gap', '<0 1 away1 back3 4', 't 4 came behind 1, without 2', 0],
    ['a refusal', '<0 1 subscription-refused1', 'a filter was refused, by no broker'],
  ])('%s', (_what, story, fault, qos = 1, outcomes = {}) => {
    expect(breach(historyOf(story, qos), ledgerOf(qos, outcomes))).toMatch(fault)
  })
})
