import { expect, test } from 'vitest'
import { measure } from '../../bench/measure.ts'
import type { Sample, Scenario } from '../../bench/scenario.ts'

test('a subject that does not run on the Node of the measurement is left out', async () => {
  const subject = (isAvailable: boolean): Scenario['subjects'][string] => ({
    title: '',
    isAvailable: (node) => isAvailable && node === process.execPath,
    measure: async () => ({ value: 1 }),
  })
  const samples = await measure(
    { name: 'some', title: '', rows: [], subjects: { a: subject(true), b: subject(false) } },
    { node: process.execPath, effort: 'check', rounds: 1, onSample: () => {} },
  )
  expect(samples).toEqual({ a: [{ value: 1 }] })
})

test('subjects are measured in turns, every second round in reverse order, and leave no process behind', async () => {
  const order: string[] = []
  const pids: number[] = []
  const subject = (title: string): Scenario['subjects'][string] => ({
    title,
    async measure(stage): Promise<Sample> {
      pids.push(stage.worker('servers/constant.ts').pid)
      return { before: order.length }
    },
  })
  const samples = await measure(
    { name: 'turns', title: '', rows: [], subjects: { a: subject('a'), b: subject('b') } },
    { node: process.execPath, effort: 'check', rounds: 2, onSample: (title) => void order.push(title) },
  )
  expect(order).toEqual(['a', 'b', 'b', 'a'])
  expect(samples).toEqual({ a: [{ before: 0 }, { before: 3 }], b: [{ before: 1 }, { before: 2 }] })
  for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow('ESRCH')
})
