import { expect, test } from 'vitest'
import { chooseFormat, MEDIA_TYPES } from '../../../src/stream/formats/choose.ts'

const chosen = (weights: Record<string, number>) => chooseFormat((mediaType) => weights[mediaType] ?? 0)?.mediaType

test('the format with the highest weight is chosen, of equal ones the first', () => {
  expect(MEDIA_TYPES).toEqual(['text/event-stream', 'application/x-ndjson'])
  expect(chosen({ 'text/event-stream': 0.4, 'application/x-ndjson': 0.5 })).toBe('application/x-ndjson')
  expect(chosen({ 'text/event-stream': 0.5, 'application/x-ndjson': 0.4 })).toBe('text/event-stream')
  expect(chosen({ 'text/event-stream': 0.1, 'application/x-ndjson': 0.1 })).toBe('text/event-stream')
  expect(chosen({ 'application/x-ndjson': 0.001 })).toBe('application/x-ndjson')
})

test('no format is chosen where none is accepted', () => {
  expect(chosen({ 'application/json': 1 })).toBe(undefined)
})
