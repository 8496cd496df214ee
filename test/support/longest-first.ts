import { BaseSequencer, type TestSpecification, type TestSequencerConstructor } from 'vitest/node'

/**
 * Begins with these files, in this order; of the others with the largest. Begun last, one of them would keep a single
 * worker busy for a minute or more.
 * @param names paths below `test`, without their ending
 */
export function longestFirst(names: readonly string[]): TestSequencerConstructor {
  const rank = ({ moduleId }: TestSpecification) => {
    const index = names.findIndex((name) => moduleId.includes(`/test/${name}.`))
    return index === -1 ? names.length : index
  }
  return class extends BaseSequencer {
    override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
      const sorted = await super.sort(files)
      return sorted.toSorted((one, other) => rank(one) - rank(other))
    }
  }
}
