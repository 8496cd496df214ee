import { filterContains, plainFilter } from '../mqtt/topic.ts'
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
