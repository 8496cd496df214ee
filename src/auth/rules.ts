import { plainFilter } from '../mqtt/topic.ts'
import type { Identity } from './identity.ts'

/** Filters for the topics that a caller may publish and subscribe to. */
export interface Rules {
  publish: readonly string[]
  subscribe: readonly string[]
}

/** Whether any publish rule matches the topic. */
export function allowsPublish({ publish }: Rules, topic: string): boolean {
  return publish.some((rule) => filterContains(rule, topic))
}

/**
 * Whether a subscribe rule contains the filter: every topic that matches the filter matches the rule. One rule has to
 * contain it alone; several rules that do so together are not enough.
 */
export function allowsSubscribe({ subscribe }: Rules, filter: string): boolean {
  const plain = plainFilter(filter)
  return subscribe.some((rule) => filterContains(rule, plain))
}

/** The members of an identity that follow from its rules. */
export function ruledBy(rules: Rules): Pick<Identity, 'mayPublish' | 'maySubscribe' | 'hasNoRules'> {
  return {
    mayPublish: (topic) => allowsPublish(rules, topic),
    maySubscribe: (filter) => allowsSubscribe(rules, filter),
    hasNoRules: rules.publish.length === 0 && rules.subscribe.length === 0,
  }
}

/**
 * Whether every topic that matches the filter also matches the rule. A topic name is a filter that matches itself only.
 */
export function filterContains(rule: string, filter: string): boolean {
  const outer = levelsOf(rule)
  const inner = levelsOf(filter)
  // Wildcards at the first level do not match topics that begin with $ [MQTT-4.7.2-1].
  if (filter.startsWith('$') && outer[0] === '+') return false
  for (let depth = 0; ; depth += 1) {
    const outerLevel = outer[depth]
    const innerLevel = inner[depth]
    if (outerLevel === '#') return true
    if (outerLevel === undefined || innerLevel === undefined) return outerLevel === innerLevel
    // `#` also matches when there is no further level, and no level of the rule but `#` does.
    if (innerLevel === '#') return false
    if (outerLevel !== '+' && outerLevel !== innerLevel) return false
  }
}

/** Splits a filter. `#` becomes `+/#`, and `/#` becomes `/+/#`, which match the same topics as no topic is empty. */
function levelsOf(filter: string): string[] {
  return filter.replace(/^(\/?)#$/, '$1+/#').split('/')
}
