import { createHash, randomBytes } from 'node:crypto'
import type { TokenEntry } from './token-file.ts'

/** Enough that nobody guesses it, and that a fast hash of it is as good as a slow one. */
const TOKEN_BYTES = 32

/** A token that is told once, and its entry in the file, still without rules. */
export function newToken(name: string): { token: string; entry: TokenEntry } {
  const token = `cw_${randomBytes(TOKEN_BYTES).toString('base64url')}`
  const sha256 = createHash('sha256').update(token).digest('hex')
  return { token, entry: { name, sha256, publish: [], subscribe: [] } }
}
