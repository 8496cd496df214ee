import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { TokenEntry } from '../../src/auth/token/token-file.ts'
import { newToken } from '../../src/auth/token/new-token.ts'
import type { Settings } from './bridge.ts'

export interface TestToken {
  token: string
  /** The Authorization header. */
  headers: { authorization: string }
  entry: TokenEntry
}

/** A token with these topic rules. `subscribe` is the same as `publish` by default. */
export function makeToken(
  name: string,
  publish: string[],
  subscribe: string[] = publish,
  limits: { rate?: number; streams?: number } = {},
): TestToken {
  const { token, entry } = newToken(name)
  return { token, headers: { authorization: `Bearer ${token}` }, entry: { ...entry, publish, subscribe, ...limits } }
}

export interface TokenFile {
  path: string
  settings: Settings
  /** Replaces the tokens. */
  write(tokens: readonly TestToken[]): void
  /** Replaces the whole file with this text, valid or not. */
  writeText(text: string): void
}

/** A file with these tokens. It is deleted with the test. */
export function tokenFile(tokens: readonly TestToken[]): TokenFile {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-tokens-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, 'tokens.json')
  const writeText = (text: string) => writeFileSync(path, text)
  const write = (some: readonly TestToken[]) => writeText(JSON.stringify(some.map(({ entry }) => entry)))
  write(tokens)
  return { path, settings: { AUTH: 'token', AUTH_TOKENS_FILE: path }, write, writeText }
}
