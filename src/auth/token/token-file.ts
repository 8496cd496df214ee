import { filterFault, isShared } from '../../mqtt/topic.ts'
import type { Rules } from '../rules.ts'

/** The entry of one token in the token file. */
export interface TokenEntry extends Rules {
  name: string
  /** SHA-256 of the token in UTF-8, in hex. */
  sha256: string
  /** Requests a second, in place of the limit for every caller; 0 for no limit. */
  rate?: number | undefined
  /** Open streams, in place of the limit for every caller; 0 for no limit. */
  streams?: number | undefined
}

/** Says all that is wrong with a token file, without the hashes in it. */
export class TokenFileError extends Error {
  override readonly name = 'TokenFileError'
}

const LIMITS = ['rate', 'streams'] as const
const MEMBERS = ['name', 'sha256', 'publish', 'subscribe', ...LIMITS]
/** Rules may contain any topic. The limits for topics apply to what callers publish and subscribe to. */
const ANY_TOPIC = { levelsMax: Infinity, allowDollar: true }

/** @throws TokenFileError with every fault at once */
export function parseTokenFile(text: string): TokenEntry[] {
  const entries = parseJson(text)
  if (!Array.isArray(entries)) throw new TokenFileError('expected an array of tokens')
  const faults = entries.flatMap((entry, index) => entryFaults(entry).map((fault) => `token ${index}: ${fault}`))
  for (const member of ['name', 'sha256'] as const) {
    const seen = new Set<unknown>()
    for (const [index, entry] of entries.entries()) {
      const given: unknown = entry?.[member]
      if (typeof given !== 'string') continue
      const value = member === 'sha256' ? given.toLowerCase() : given
      if (seen.has(value)) faults.push(`token ${index}: expected a ${member} of its own, got that of an earlier token`)
      seen.add(value)
    }
  }
  if (faults.length > 0) throw new TokenFileError(faults.join('; '))
  return (entries as TokenEntry[]).map(({ sha256, publish = [], subscribe = [], ...others }) => ({
    ...others,
    sha256: sha256.toLowerCase(),
    publish,
    subscribe,
  }))
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // No `cause`: the message of JSON.parse quotes the text, which may be a secret in the wrong file.
    throw new TokenFileError('expected JSON')
  }
}

function entryFaults(entry: unknown): string[] {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return ['expected an object']
  const { name, sha256, ...rules } = entry as Record<string, unknown>
  const faults = Object.keys(rules)
    .filter((key) => !MEMBERS.includes(key))
    .map((key) => `expected only ${MEMBERS.join(', ')}, got ${JSON.stringify(key)}`)
  if (typeof name !== 'string' || name === '') faults.push('expected a name')
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/i.test(sha256)) {
    faults.push('expected the sha256 of the token, in hex')
  }
  for (const limit of LIMITS) {
    const value = rules[limit]
    const isValid = value === undefined || (Number.isSafeInteger(value) && (value as number) >= 0)
    if (!isValid) faults.push(`expected ${limit} to be an integer of 0 or more`)
  }
  for (const member of ['publish', 'subscribe'] as const) {
    faults.push(...rulesFaults(rules[member] ?? []).map((fault) => `${member} ${fault}`))
  }
  return faults
}

/** All that is wrong with a list of rules. */
export function rulesFaults(rules: unknown): string[] {
  if (!Array.isArray(rules) || !rules.every((rule) => typeof rule === 'string')) return ['must be an array of filters']
  return (rules as string[]).flatMap((rule) => {
    const fault = isShared(rule) ? 'must be a filter without $share/GROUP/' : filterFault(rule, ANY_TOPIC)
    return fault === undefined ? [] : [`${JSON.stringify(rule)} ${fault}`]
  })
}
