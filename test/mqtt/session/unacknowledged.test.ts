import { beforeEach, describe, expect, test } from 'vitest'
import type { Message } from '../../../src/mqtt/message.ts'
import { Unacknowledged } from '../../../src/mqtt/session/unacknowledged.ts'

const message = (payload: string): Message => ({ topic: 'a', payload: Buffer.from(payload), qos: 1, retain: false })

let sent: number[]
let table: Unacknowledged

beforeEach(() => {
  sent = []
  table = new Unacknowledged((messageId) => sent.push(messageId))
})

/** Receives a message, and expects that it has to be delivered or not. */
function receive(messageId: number, payload: string, isDelivered: boolean, dup = false): Message {
  const received = message(payload)
  expect(table.receive(received, { messageId, dup })).toBe(isDelivered)
  return received
}

describe('acknowledgements', () => {
  test('are sent in the order in which the messages came, in whatever order they are done', () => {
    const [a, b, c] = [receive(7, 'a', true), receive(3, 'b', true), receive(5, 'c', true)]
    table.done(c!)
    table.done(b!)
    expect(sent).toEqual([])
    table.done(a!)
    expect(sent).toEqual([7, 3, 5])
    expect(table.size).toBe(0)
  })

  test('are sent once', () => {
    const a = receive(1, 'a', true)
    table.done(a)
    table.done(a)
    expect(sent).toEqual([1])
  })

  test('wait for the connection on which the message comes again', () => {
    const [a, b] = [receive(1, 'a', true), receive(2, 'b', true)]
    table.connectionLost()
    table.done(a!)
    expect(sent).toEqual([])
    receive(1, 'a', false, true)
    expect(sent).toEqual([1])
    receive(2, 'b', false, true)
    expect(sent).toEqual([1])
    table.done(b!)
    expect(sent).toEqual([1, 2])
  })
})

describe('a message that comes again', () => {
  test('is new if its PUBACK was written: nobody knows whether that arrived', () => {
    table.done(receive(1, 'a', true))
    table.connectionLost()
    receive(1, 'a', true, true)
  })

  test('is new if it is another one under the same packet identifier', () => {
    const a = receive(1, 'a', true)
    table.connectionLost()
    const b = receive(1, 'b', true, true)
    table.done(a)
    expect(sent).toEqual([])
    table.done(b)
    expect(sent).toEqual([1])
  })

  test('is new if it was abandoned', () => {
    const [a, b] = [receive(1, 'a', true), receive(2, 'b', true)]
    table.abandon(b!)
    table.done(a!)
    expect(sent).toEqual([1])
    table.connectionLost()
    receive(2, 'b', true, true)
  })

  test('is new if the session was lost', () => {
    const a = receive(1, 'a', true)
    table.connectionLost()
    table.sessionLost()
    receive(1, 'a', true)
    table.done(a)
    expect(sent).toEqual([])
  })

  test('on the same connection replaces the first, whose acknowledgement the broker does not wait for', () => {
    receive(1, 'a', true)
    const again = receive(1, 'a', true, true)
    table.done(again)
    expect(sent).toEqual([1])
  })
})

describe('with equal payloads', () => {
  test('a message without DUP is never a known one, and is marked where it may be', () => {
    receive(1, 'same', true)
    table.connectionLost()
    expect(receive(1, 'same', true).redelivered).toBe(true)
    expect(receive(2, 'same', true).redelivered).toBeUndefined()
  })

  // RabbitMQ: ten messages, three acknowledged; on the next connection the other seven are numbered from 1.
  test('and packet identifiers that begin anew, everything unacknowledged is delivered again', () => {
    const seen = Array.from({ length: 10 }, (_, index) => receive(index + 1, 'same', true))
    for (const message of seen.slice(0, 3)) table.done(message)
    table.connectionLost()
    sent = []
    const again = Array.from({ length: 7 }, (_, index) => receive(index + 1, 'same', true, true))
    expect(again.every(({ redelivered }) => redelivered)).toBe(true)
    // What the reader says of the earlier copies acknowledges nothing that it has not seen.
    for (const message of seen) table.done(message)
    expect(sent).toEqual([])
    for (const message of again) table.done(message)
    expect(sent).toEqual([1, 2, 3, 4, 5, 6, 7])
    expect(table.size).toBe(0)
  })

  test('that come again in order under their identifiers are known', () => {
    const seen = [receive(4, 'same', true), receive(5, 'same', true)]
    table.connectionLost()
    receive(4, 'same', false, true)
    receive(5, 'same', false, true)
    for (const message of seen) table.done(message)
    expect(sent).toEqual([4, 5])
  })

  test('and a PUBACK that was lost, only that message is delivered again', () => {
    table.done(receive(4, 'same', true))
    receive(5, 'same', true)
    table.connectionLost()
    expect(receive(4, 'same', true, true).redelivered).toBe(true)
    receive(5, 'same', false, true)
  })
})

test('a message that is done and did not come again is forgotten with the first new message', () => {
  table.done(receive(1, 'a', true))
  const b = receive(2, 'b', true)
  table.connectionLost()
  table.done(b)
  expect(table.size).toBe(1)
  receive(9, 'c', true)
  expect(table.size).toBe(1)
})
