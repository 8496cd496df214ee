import { plainFilter } from '../mqtt/topic.ts'
import type { Identity } from './identity.ts'

/** What a caller may do, as filters of the topics it may do it to. */
export interface Rules {
  publish: readonly string[]
  subscribe: readonly string[]
}

/** Whether some rule matches the topic. */
export function allowsPublish({ publish }: Rules, topic: string): boolean {
  return publish.some((rule) => filterContains(rule, topic))
}

/** Whether one rule contains the filter: several that do so only together are not enough. */
export function allowsSubscribe({ subscribe }: Rules, filter: string): boolean {
  const plain = plainFilter(filter)
  return subscribe.some((rule) => filterContains(rule, plain))
}

/** The part of an identity that rules decide. */
export function ruledBy(rules: Rules): Pick<Identity, 'mayPublish' | 'maySubscribe'> {
  return {
    mayPublish: (topic) => allowsPublish(rules, topic),
    maySubscribe: (filter) => allowsSubscribe(rules, filter),
  }
}

/** Whether every topic that matches the filter matches the rule too. A topic is a filter that only it matches. */
export function filterContains(rule: string, filter: string): boolean {
  const outer = levelsOf(rule)
  const inner = levelsOf(filter)
  // Wildcards at the first level do not match topics that begin with $ [MQTT-4.7.2-1].
  if (filter.startsWith('$') && outer[0] === '+') return false
  for (let depth = 0; ; depth += 1) {
    const ours = outer[depth]
    const theirs = inner[depth]
    if (ours === '#') return true
    if (ours === undefined || theirs === undefined) return ours === theirs
    // What `#` stands for may also be no level at all, which nothing but `#` matches.
    if (theirs === '#') return false
    if (ours !== '+' && ours !== theirs) return false
  }
}

/** No topic is empty, so `#` is the same as `+/#`, and `/#` as `/+/#`. */
function levelsOf(filter: string): string[] {
  return filter.replace(/^(\/?)#$/, '$1+/#').split('/')
}
