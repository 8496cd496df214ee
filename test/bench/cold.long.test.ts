import { dirname } from 'node:path'
import { expect, test } from 'vitest'
import { BASELINES, bridgeOf, costsOfFirst } from '../../bench/cold.ts'
import { hasMosquitto } from '../support/broker.ts'
import { distFile } from '../support/dist.ts'

const SUBJECTS = { Causeway: bridgeOf(dirname(distFile('main.js'))), ...BASELINES }

test.skipIf(!hasMosquitto).for(Object.entries(SUBJECTS))(
  'what the first requests cost %s is measured',
  { timeout: 60_000 },
  async ([, start]) => {
    const [first, all] = await costsOfFirst(start, [1, 200])
    expect(first).toBeGreaterThan(0)
    expect(all).toBeGreaterThan(first!)
  },
)
