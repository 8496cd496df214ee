import { pino } from 'pino'
import { expect, test } from 'vitest'
import { LimitedLog, limitedLogger } from '../../src/links/limited-log.ts'

test('a limited logger writes the first error of a text and counts the others; what it leaves alone is not limited', async () => {
  const lines: Record<string, unknown>[] = []
  const plain = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  const logger = limitedLogger(plain, new LimitedLog(plain))
  for (let number = 0; number < 50; number += 1) {
    logger.error({ err: new Error('thrown'), number }, 'a request failed')
    logger.warn('text alone')
    logger.debug({ number }, 'each of them')
  }
  const of = (msg: string) => lines.filter((line) => line['msg'] === msg)
  expect(of('each of them')).toHaveLength(50)
  await expect.poll(() => of('a request failed')).toHaveLength(2)
  expect(of('a request failed')).toMatchObject([
    { level: 50, number: 0, err: { message: 'thrown' } },
    { level: 50, number: 49, more: 49 },
  ])
  expect(of('text alone')).toMatchObject([{ level: 40 }, { level: 40, more: 49 }])
})
