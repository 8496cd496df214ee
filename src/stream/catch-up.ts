import type { Channel } from './channel.ts'
import type { Reader } from './reader.ts'

/** The most one write takes from the log; with the socket's own buffer it is all the memory a stalled reader costs. */
export const CHUNK_BYTES = 65_536

/** Writes to a reader what is new for it, until there is no more or its socket is full. */
export function follow(channel: Channel, reader: Reader): void {
  const { log } = channel
  while (reader.isReady) {
    if (reader.position < log.first) overtaken(channel, reader)
    else if (reader.position >= log.next) return
    else if (reader.skips.length > 0) writeLatest(channel, reader)
    else {
      const { bytes, next } = channel.read(reader.position, CHUNK_BYTES)
      const events = next - reader.position
      reader.position = next
      reader.write(bytes, events)
    }
  }
}

function overtaken(channel: Channel, reader: Reader): void {
  const { log } = channel
  // Of the frames it was skipping over, only those it was still to get are dropped now.
  const owed = reader.skips.length + log.next - (reader.skips[0] ?? reader.position)
  const [first, ...rest] = reader.slow === 'latest' ? newestOfTopics(channel) : []
  reader.position = first ?? log.first
  reader.skips = first === undefined ? [] : [...rest, log.next].reverse()
  const kept = first === undefined ? log.next - log.first : rest.length + 1
  const gap = channel.gap('overrun', owed - kept)
  if (reader.slow === 'close') reader.close('slow', gap)
  else reader.write(gap, 1)
}

function newestOfTopics({ log }: Channel): number[] {
  const positions: number[] = []
  for (let position = log.first; position < log.next; position += 1) {
    if (!log.isOutdated(position)) positions.push(position)
  }
  return positions
}

function writeLatest({ log }: Channel, reader: Reader): void {
  const { bytes } = log.read(reader.position, 0)
  reader.position = reader.skips.pop()!
  reader.write(bytes, 1)
}
