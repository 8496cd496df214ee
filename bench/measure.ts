import { join } from 'node:path'
import type { Effort, Sample, Scenario } from './scenario.ts'
import { ROOT, Stage } from './stage.ts'

/** All samples of each subject, in the order in which they were taken. */
export type Samples = Record<string, Sample[]>

export interface MeasureOptions {
  /** The Node binary that runs the bridge and the baselines. */
  node: string
  effort: Effort
  rounds: number
  /** Called with each stage before it has any process. */
  onStage?(stage: Stage): void
  onSample(subject: string, sample: Sample): void
}

/**
 * Measures the subjects of a scenario in turn, in every second round in reverse order: a machine that becomes slower or
 * faster meanwhile affects all of them alike.
 */
export async function measure(
  { subjects }: Scenario,
  { node, effort, rounds, onStage, onSample }: MeasureOptions,
): Promise<Samples> {
  const samples: Samples = {}
  const available = Object.entries(subjects).filter(([, { isAvailable = true }]) =>
    typeof isAvailable === 'function' ? isAvailable(node) : isAvailable,
  )
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, subject] of round % 2 === 0 ? available : [...available].reverse()) {
      const stage = new Stage(node, subject.dist ?? join(ROOT, 'dist'))
      onStage?.(stage)
      try {
        const sample = await subject.measure(stage, effort)
        onSample(subject.title, sample)
        ;(samples[name] ??= []).push(sample)
      } finally {
        await stage.end()
      }
    }
  }
  return samples
}
