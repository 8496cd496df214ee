import { expect, test } from 'vitest'
import { hasMosquitto } from '../support/broker.ts'
import { briefFaults } from './faults.ts'
import { TABLE_HEAD, tableRow } from './report.ts'
import { runFault, type RunOptions } from './run.ts'
import { seedFromEnvironment } from './seed.ts'

const options: RunOptions = { seed: seedFromEnvironment(), broker: 'mosquitto', protocol: '5' }

test.skipIf(!hasMosquitto).for(briefFaults)(
  '$name: nothing is lost, doubled or silent',
  { timeout: 120_000 },
  async (fault, { skip }) => {
    const reason = fault.skip?.(options)
    if (reason !== undefined) skip(reason)
    const row = await runFault(fault, options)
    console.log(`CAUSEWAY_TEST_SEED=${options.seed}\n${TABLE_HEAD}${tableRow(row)}`)
    expect(row.breaks).toEqual([])
  },
)
