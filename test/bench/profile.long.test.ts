import { beforeAll, describe, test } from 'vitest'
import { COST_NAMES } from '../../bench/cpu-profile.ts'
import { profile } from '../../bench/profile.ts'
import { publishes } from '../../bench/scenarios/publish.ts'
import { hasMosquitto } from '../support/broker.ts'
import { distFile } from '../support/dist.ts'

const costOf = (all: number[], name: string) => all[COST_NAMES.findIndex((title) => title.includes(name))]

beforeAll(() => void distFile('main.js'))

describe.skipIf(!hasMosquitto).concurrent('the profile', () => {
  test.for(Object.values(publishes[0]!.subjects))(
    'of the $title says what a request costs',
    { timeout: 60_000 },
    async (subject, { expect }) => {
      const found = await profile(subject, process.execPath, 'check')
      expect(found).toSatisfy((all: number[]) => all.every((cost) => Number.isFinite(cost) && cost >= 0))
      expect(costOf(found, 'answers')).toBeGreaterThan(0)
      expect(costOf(found, 'the bridge’s HTTP')! > 0).toBe(subject.title === 'Causeway')
      if (subject.title !== 'bare Fastify route') {
        expect(costOf(found, 'baselines')! > 0).toBe(subject.title === 'least bridge')
      }
    },
  )
})
