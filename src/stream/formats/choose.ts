import { eventStream } from './event-stream.ts'
import type { Format } from './format.ts'
import { ndjson } from './ndjson.ts'

/** Every output format, the preferred one first. A new format is a file in this folder and an entry here. */
const FORMATS: readonly Format[] = [eventStream, ndjson]

export const MEDIA_TYPES: readonly string[] = FORMATS.map(({ mediaType }) => mediaType)

/** Their names in metrics. */
export const FORMAT_NAMES: readonly string[] = FORMATS.map(({ name }) => name)

/**
 * The format that a client likes best; of those that it likes equally, the first. Undefined where it accepts none.
 * @param weightOf the weight that the client gives a media type, from 0 (not accepted) to 1
 */
export function chooseFormat(weightOf: (mediaType: string) => number): Format | undefined {
  let chosen: { format: Format; weight: number } | undefined
  for (const format of FORMATS) {
    const weight = weightOf(format.mediaType)
    if (weight > (chosen?.weight ?? 0)) chosen = { format, weight }
  }
  return chosen?.format
}
