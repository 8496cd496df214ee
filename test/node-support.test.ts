import { expect, test } from 'vitest'
import { nodeWarning } from '../src/node-support.ts'

test.each([
  ['v20.20.2', '2026-04-29', false],
  ['v20.20.2', '2026-04-30', true],
  ['v22.22.0', '2026-11-26', false],
  ['v23.1.0', '2026-11-26', true],
  ['v24.1.0', '2026-11-26', false],
  ['v26.0.0', '2026-11-26', false],
  ['v18.0.0', '2026-11-26', true],
  // What is newer than the table cannot be judged by it.
  ['v27.0.0', '2026-11-26', false],
])('Node %s on %s', (version, day, isWarned) => {
  expect(nodeWarning(version, new Date(day)) !== undefined).toBe(isWarned)
})
