import type { Channel } from './channel.ts'
import type { Reader } from './reader.ts'

/** Most bytes of one write. A stalled reader costs this much memory, and the socket's own buffer. */
export const CHUNK_BYTES = 65_536

/** Writes to a reader what its channel's log has for it, until there is no more or its socket is full. */
export function catchUp(channel: Channel, reader: Reader): void {
  const { log } = channel
  while (reader.isReady) {
    if (reader.position < log.start) skipOverwritten(channel, reader)
    else if (reader.position >= log.end) return
    else if (reader.nextPositions.length > 0) writeLatest(channel, reader)
    else {
      const { bytes, end } = channel.read(reader.position, CHUNK_BYTES)
      const events = end - reader.position
      reader.position = end
      reader.write(bytes, events)
    }
  }
}

/** The log overwrote what the reader was to get next: announces that with a `gap`, then does what its policy says. */
function skipOverwritten(channel: Channel, reader: Reader): void {
  const { log } = channel
  // Frames that it was jumping over already were counted as dropped then.
  const undelivered = reader.nextPositions.length + log.end - (reader.nextPositions[0] ?? reader.position)
  const [oldest, ...others] = reader.slow === 'latest' ? newestOfTopics(channel) : []
  reader.position = oldest ?? log.start
  reader.nextPositions = oldest === undefined ? [] : [...others, log.end].reverse()
  const kept = oldest === undefined ? log.end - log.start : others.length + 1
  const gap = channel.gap('overrun', undelivered - kept)
  if (reader.slow === 'close') reader.close('slow', gap)
  else reader.write(gap, 1)
}

function newestOfTopics({ log }: Channel): number[] {
  const positions: number[] = []
  for (let position = log.start; position < log.end; position += 1) {
    if (!log.isOutdated(position)) positions.push(position)
  }
  return positions
}

function writeLatest({ log }: Channel, reader: Reader): void {
  const { bytes } = log.read(reader.position, 0)
  reader.position = reader.nextPositions.pop()!
  reader.write(bytes, 1)
}
