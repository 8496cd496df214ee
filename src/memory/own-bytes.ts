/**
 * These bytes, in memory of their own. A part of what a socket has read, or of the memory that Node shares among small
 * buffers, keeps all of it alive: of 64 KiB that were read, one message of 100 bytes may be all that is needed.
 */
export function ownBytes(bytes: Buffer): Buffer {
  if (bytes.buffer.byteLength === bytes.length) return bytes
  const own = Buffer.allocUnsafeSlow(bytes.length)
  own.set(bytes)
  return own
}
