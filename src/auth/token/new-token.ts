import { createHash, randomBytes } from 'node:crypto'
import type { TokenEntry } from './token-file.ts'

/** 256 random bits cannot be guessed, so a fast hash of the token protects it as well as a slow one. */
const TOKEN_BYTES = 32

/**
 * A new token and its entry for the token file, which has no rules yet. Only the entry is stored; the token is shown
 * once.
 */
export function newToken(name: string): { token: string; entry: TokenEntry } {
  const token = `cw_${randomBytes(TOKEN_BYTES).toString('base64url')}`
  const sha256 = createHash('sha256').update(token).digest('hex')
  return { token, entry: { name, sha256, publish: [], subscribe: [] } }
}
