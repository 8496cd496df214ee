import { ConfigError } from '../../src/config/config.ts'

/** The faults that loading a configuration reports; none when it loads. */
export function faultsIn(load: () => unknown): readonly string[] {
  try {
    load()
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
  return []
}
