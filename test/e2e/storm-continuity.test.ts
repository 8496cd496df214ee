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

/**
 * A history from words. `3` is live message 3, `r3` the retained one. `<3` opens a stream and `>3` resumes one when
 * three messages were begun. `overrun3` is a gap with that reason, `away3` and `back3` are `status` events, all with
 * three begun. `restart` is a restart of the broker.
 */
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

describe('this history is no breach:', () => {
  test.each<[string, string, (0 | 1 | 2)?, Record<number, Outcome>?]>([
    ['all in order', '<0 1 2 3'],
    ['from the message at which it began', '<4 4 5 6'],
    ['a message that was on its way when it began', '<4 3 4 5'],
    ['the retained message, then those after it', '<4 r4 5 6'],
    ['all in order across a reconnect', '<0 1 2 >4 3 4'],
    ['messages missing that a gap covers', '<0 1 overrun5 6 7'],
    ['messages missing that were published until the broker was back', '<0 1 away2 broker-session-lost4 back6 7'],
    ['a redelivery after the reconnect', '<0 1 2 3 away3 back3 2 3 4'],
    ['a redelivery while one connection of several is back', '<0 1 2 3 away3 2 3 4 back5 5'],
    ['a QoS 2 message that a gap covers after a newer one', '<0 1 away1 broker-session-lost3 5 3 4 back5 6', 2],
    ['a QoS 1 message that a gap covers after a newer one', '<0 1 away1 broker-session-lost3 5 3 4 back5 6', 1],
    ['a queued message after a newer one, behind a reconnect', '<0 1 away1 back3 4 2 3 5'],
    ['a queued QoS 2 message after a newer one, behind a reconnect', '<0 1 away1 back3 4 2 3 5', 2],
    ['a redelivery at QoS 2 after a restart', '<0 1 2 3 away3 restart back3 2 3 4', 2],
    ['a message missing whose publisher does not know its outcome', '<0 1 3', 1, { 2: 'unknown' }],
    ['QoS 0 lost while the broker was away, on a topic not seen before', '<0 away2 back4 5 6', 0],
  ])('%s', (_what, story, qos = 1, outcomes = {}) => {
    expect(breach(historyOf(story, qos), ledgerOf(qos, outcomes))).toBeUndefined()
  })
})

describe('this history is a breach:', () => {
  test.each<[string, string, string, (0 | 1 | 2)?, Record<number, Outcome>?]>([
    ['a hole', '<0 1 3', 't 3 came after 1, without 2'],
    ['a hole at the start', '<2 4', 't 4 came after nothing, without 3'],
    ['a hole after the retained message', '<4 r4 6', 't 6 came after 4, without 5'],
    ['a hole across a reconnect', '<0 1 2 >4 4', 't 4 came after 2, without 3'],
    ['a hole that was begun after the gap', '<0 1 overrun5 7', 't 7 came after 1, without 6'],
    ['a hole after the broker’s return', '<0 1 away2 broker-session-lost4 back6 8', 't 8 came after 1, without 7'],
    ['a hole while the broker was away, without a gap', '<0 1 away1 back3 4', 't 4 came after 1, without 2'],
    ['a queued message that never comes', '<0 1 away1 back3 4 3 5', 't 4 came after 1, without 2'],
    [
      'a message after a newer one that was begun after the reconnect',
      '<0 1 away1 back2 2 4 3',
      't 4 came after 2, without 3',
    ],
    ['a repeat', '<0 1 2 2', 't 2 came again, after 2, without a reconnect'],
    ['a repeat across a reconnect of the follower', '<0 1 2 >2 2', 't 2 came again, after 2, without a reconnect'],
    ['an older message after a newer one', '<0 1 3 2', 't 3 came after 1, without 2'],
    ['an older message after a retained one', '<4 r4 3', 't 3 came again, after 4, without a reconnect'],
    ['a redelivery with a hole', '<0 1 2 3 4 away4 back4 2 4', 't 4 came after a redelivery of 2, without 3'],
    [
      'a redelivery that ends before the last message',
      '<0 1 2 3 4 away4 back4 2 5',
      't 5 came after a redelivery of 2, without 3',
    ],
    ['a repeat at QoS 2, even after a reconnect', '<0 1 2 away2 back2 2', 't 2 came again, after 2, at QoS 2', 2],
    [
      'a QoS 2 message that a gap covers, twice',
      '<0 1 away1 broker-session-lost3 5 3 3',
      't 3 came again, after 5, at QoS 2',
      2,
    ],
    [
      'an older message after a retained one and a gap',
      '<4 r5 away5 broker-session-lost6 3',
      't 3 came again, after 5, at QoS 2',
      2,
    ],
    [
      'a QoS 0 message that a gap covers after a newer one',
      '<0 1 away1 broker-session-lost3 5 3',
      't 3 came again, after 5, at QoS 0',
      0,
    ],
    [
      'a redelivery at QoS 2 of a message that came after the restart',
      '<0 1 away1 restart back1 2 3 away3 back3 3',
      't 3 came again, after 3, at QoS 2',
      2,
    ],
    [
      'a redelivery at QoS 2 with a hole after a restart',
      '<0 1 2 3 4 away4 restart back4 2 4',
      't 4 came after a redelivery of 2, without 3',
      2,
    ],
    [
      'a repeat at QoS 2 of a redelivery',
      '<0 1 2 3 away3 restart back3 2 3 3',
      't 3 came again, after a redelivery of 3',
      2,
    ],
    [
      'a message whose publisher was told that it was not sent',
      '<0 1 2',
      't 2 came, though its publisher was told that it was not sent',
      1,
      { 2: 'refused' },
    ],
    ['a message that was never published', '<0 10', 't 10 was never published'],
    ['QoS 0 lost without a gap, on a topic seen before', '<0 1 away1 back3 4', 't 4 came after 1, without 2', 0],
    ['a refused filter', '<0 1 subscription-refused1', 'a filter was refused, though no broker refuses any'],
  ])('%s', (_what, story, fault, qos = 1, outcomes = {}) => {
    expect(breach(historyOf(story, qos), ledgerOf(qos, outcomes))).toMatch(fault)
  })
})
