import type { Scenario } from './scenario.ts'
import { batch } from './scenarios/batch.ts'
import { ceilings } from './scenarios/ceilings.ts'
import { dispatch } from './scenarios/dispatch.ts'
import { fanOut1000, fanOut10000, fanOut100Filters } from './scenarios/fan-outs.ts'
import { firehose } from './scenarios/firehose.ts'
import { idle } from './scenarios/idle.ts'
import { instead } from './scenarios/instead.ts'
import { joining } from './scenarios/joining.ts'
import { latency } from './scenarios/latency.ts'
import { oneProcessor } from './scenarios/one-processor.ts'
import { publishes } from './scenarios/publish.ts'
import { push } from './scenarios/push.ts'
import { soakScenario } from './scenarios/soak.ts'

/** All scenarios, in the order of the table. */
export const scenarios: readonly Scenario[] = [
  fanOut1000,
  fanOut10000,
  fanOut100Filters,
  ...publishes,
  oneProcessor,
  batch,
  push,
  firehose,
  latency,
  idle,
  joining,
  instead,
  dispatch,
  ceilings,
  soakScenario,
]
