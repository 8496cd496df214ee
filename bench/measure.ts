import { join } from 'node:path'
import type { Effort, Sample, Scenario } from './scenario.ts'
import { ROOT, Stage } from './stage.ts'

/** Every sample of each subject, in the order taken. */
export type Samples = Record<string, Sample[]>

export interface MeasureOptions {
  /** Node that runs the bridge and the baselines. */
  node: string
  effort: Effort
  rounds: number
  /** Called with each stage before anything is on it. */
  onStage?(stage: Stage): void
  onSample(subject: string, sample: Sample): void
}

/** Measures a scenario's subjects in turns, each next round the other way round, so that what drifts on the machine meets all alike. */
export async function measure(
  { subjects }: Scenario,
  { node, effort, rounds, onStage, onSample }: MeasureOptions,
): Promise<Samples> {
  const samples: Samples = {}
  const available = Object.entries(subjects).filter(([, { isAvailable = true }]) => isAvailable)
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
