import type { Rules } from '../rules.ts'
import { rulesFaults } from '../token/token-file.ts'

/** The claims of a verified token. */
export type Claims = Readonly<Record<string, unknown>>

/**
 * Makes topic rules from the claims of a token.
 * @throws ClaimError where the claims contain no valid rules
 */
export type RulesOf = (claims: Claims) => Rules

/** The claim with the topic rules is malformed. */
export class ClaimError extends Error {
  override readonly name = 'ClaimError'
}

/** Takes the rules `{publish: [filter], subscribe: [filter]}` from a claim. Without the claim there are no rules. */
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
 * Fills `${claim}` in the rules with the values of the token's claims. A rule is left out where the token lacks the
 * claim, or where the value is not plain text for one level: no value may make a rule match more topics.
 * @throws Error that says what is wrong with a template
 */
export function fromTemplates(templates: Rules): RulesOf {
  for (const template of [...templates.publish, ...templates.subscribe]) {
    const [fault] = rulesFaults([template.replace(PLACEHOLDER, 'claim')])
    if (fault !== undefined || /\$\{/.test(template.replace(PLACEHOLDER, ''))) {
      throw new Error(`expected filters in which levels may contain \${claim}, got ${JSON.stringify(template)}`)
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
    // A value that begins with $ must not turn a rule for ordinary topics into one for $SYS and the like.
    if (rule.startsWith('$') && (template.startsWith('${') || !template.startsWith('$'))) isSafe = false
    return isSafe && rulesFaults([rule]).length === 0 ? [rule] : []
  })
}
