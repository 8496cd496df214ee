import type { Channel } from './channel.ts'
import type { Reader } from './reader.ts'

/** Most bytes of one write. A stalled reader costs this much memory, and the socket's own buffer. */
export const CHUNK_BYTES = 65_536

/**
 * Writes to a reader what its channel's log has for it, until there is no more or its socket is full. An error ends
 * that reader's stream, and nobody else's.
 */
export function catchUp(channel: Channel, reader: Reader): void {
  try {
    writeAll(channel, reader)
  } catch (error) {
    reader.fail(error)
  }
}

function writeAll(channel: Channel, reader: Reader): void {
  const { log } = channel
  while (reader.isReady) {
    if (reader.position < log.start) skipOverwritten(channel, reader)
    else if (reader.position >= log.end) return
    else if (reader.nextPositions.length > 0) writeLatest(channel, reader)
    else {
      const chunk = channel.read(reader.position, CHUNK_BYTES)
      reader.position = chunk.end
      reader.write(chunk.bytes, chunk.events, chunk)
    }
  }
}

/** The log overwrote what the reader was to get next: announces that with a `gap`, then does what its policy says. */
function skipOverwritten(channel: Channel, reader: Reader): void {
  const { log } = channel
  // Frames that it was jumping over already were counted as dropped then.
  const undelivered = reader.nextPositions.length + log.end - (reader.nextPositions[0] ?? reader.position)
  const [oldest, ...others] = reader.slow === 'latest' ? log.newestOfTopics() : []
  reader.position = oldest ?? log.start
  reader.nextPositions = oldest === undefined ? [] : [...others, log.end].reverse()
  const kept = oldest === undefined ? log.end - log.start : others.length + 1
  const gap = channel.gap('overrun', undelivered - kept)
  if (reader.slow === 'close') reader.close('slow', gap)
  else reader.write(gap, 1)
}

function writeLatest({ log }: Channel, reader: Reader): void {
  const bytes = log.readOne(reader.position)
  reader.position = reader.nextPositions.pop()!
  if (bytes !== undefined) reader.write(bytes, 1)
}
