import type { Channel } from './channel.ts'
import type { Reader } from './reader.ts'

/** The most one write takes from the log; with the socket's own buffer it is all the memory a stalled reader costs. */
const CHUNK_BYTES = 65_536

/** Writes to a reader what is new for it, until there is no more or its socket is full. */
export function follow(channel: Channel, reader: Reader): void {
  const { log } = channel
  while (reader.isReady) {
    if (reader.position < log.first) overtaken(channel, reader)
    else if (reader.position >= log.next) return
    else if (reader.position < reader.latestUntil) writeLatest(channel, reader)
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
  let dropped = log.first - reader.position
  reader.position = log.first
  if (reader.slow === 'latest') {
    reader.latestUntil = log.next
    for (let position = log.first; position < log.next; position += 1) if (log.isOutdated(position)) dropped += 1
  }
  const gap = channel.gap('overrun', dropped)
  if (reader.slow === 'close') reader.close('slow', gap)
  else reader.write(gap, 1)
}

/** One frame at most: what is out of date is not joined, and may become so before its turn. */
function writeLatest({ log }: Channel, reader: Reader): void {
  const { position } = reader
  reader.position += 1
  if (!log.isOutdated(position)) reader.write(log.read(position, 0).bytes, 1)
}
