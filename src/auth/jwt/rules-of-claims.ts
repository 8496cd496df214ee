import type { Rules } from '../rules.ts'
import { rulesFaults } from '../token/token-file.ts'

/** The claims of a token that was verified. */
export type Claims = Readonly<Record<string, unknown>>

/** Where the rules of a token come from. */
export type RulesOf = (claims: Claims) => Rules

/** Why the rules that a token brings cannot be used. */
export class ClaimError extends Error {
  override readonly name = 'ClaimError'
}

/**
 * Rules as the token itself lists them; without the claim there are none.
 * @returns what throws ClaimError where the claim is no `{publish, subscribe}` of filters
 */
export function fromClaim(name: string): RulesOf {
  return (claims) => {
    const claim = Object.hasOwn(claims, name) ? claims[name] : {}
    if (typeof claim !== 'object' || claim === null) throw new ClaimError()
    const { publish = [], subscribe = [] } = claim as Partial<Rules>
    if (rulesFaults(publish).length + rulesFaults(subscribe).length > 0) throw new ClaimError()
    return { publish, subscribe }
  }
}

const PLACEHOLDER = /\$\{([^}]*)\}/g

/**
 * Rules with `${claim}` for what a token says of its bearer. A rule whose claim the token lacks, or has a value for that
 * is not plainly part of one level, is left out: no value may widen a rule.
 * @throws Error that says what is wrong with a template
 */
export function fromTemplates(templates: Rules): RulesOf {
  for (const template of [...templates.publish, ...templates.subscribe]) {
    const [fault] = rulesFaults([template.replace(PLACEHOLDER, 'claim')])
    if (fault !== undefined || /\$\{/.test(template.replace(PLACEHOLDER, ''))) {
      throw new Error(`expected filters with \${claim} in a level, got ${JSON.stringify(template)}`)
    }
  }
  return (claims) => ({ publish: filled(templates.publish, claims), subscribe: filled(templates.subscribe, claims) })
}

function filled(templates: readonly string[], claims: Claims): string[] {
  return templates.flatMap((template) => {
    let isSafe = true
    const rule = template.replace(PLACEHOLDER, (_placeholder, name: string) => {
      const value = Object.hasOwn(claims, name) ? claims[name] : undefined
      const text = typeof value === 'number' || typeof value === 'boolean' ? String(value) : value
      if (typeof text === 'string' && text !== '' && !/[/+#]/.test(text)) return text
      isSafe = false
      return ''
    })
    // A value that begins with $ would lead from the caller's own topics to those of the broker.
    if (rule.startsWith('$') && (template.startsWith('${') || !template.startsWith('$'))) isSafe = false
    return isSafe && rulesFaults([rule]).length === 0 ? [rule] : []
  })
}
