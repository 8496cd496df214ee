import { setDefaultHighWaterMark } from 'node:stream'

const BUFFER_BYTES = 16_384

/**
 * Makes each socket and each stream say that it is full once it holds 16 KiB, as Node 20 does by itself. From Node 22
 * on it would be 64 KiB. What a client has not read is counted for its caller once its socket is full, so what the
 * socket holds before that is in no account. To be called before any is opened.
 */
export function limitStreamBuffers(): void {
  setDefaultHighWaterMark(false, BUFFER_BYTES)
}
