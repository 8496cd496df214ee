/** Limits for topics and filters, in addition to MQTT 5 section 4.7. */
export interface TopicRules {
  /**
   * Most levels, with the two of `$share/GROUP`. Mosquitto closes the connection if there are more than 201, Aedes if
   * there are more than 100.
   */
  levelsMax: number
  /** Whether a topic or filter may begin with `$`; `$share` always may. */
  allowDollar: boolean
}

const MAX_STRING_BYTES = 65_535

/**
 * Why brokers would refuse this as an MQTT UTF-8 string (MQTT 5 section 1.5.4), or undefined if they accept it. The
 * specification only discourages control characters and non-characters, but Mosquitto closes the connection.
 */
export function stringFault(value: string): string | undefined {
  // Nearly all strings are plain ASCII. Looking up Unicode properties takes ten times as long.
  if (value.length <= MAX_STRING_BYTES && /^[\x20-\x7e]*$/.test(value)) return undefined
  if (Buffer.byteLength(value) > MAX_STRING_BYTES) return `must not be longer than ${MAX_STRING_BYTES} bytes`
  if (/\p{Cc}/u.test(value)) return 'must not contain control characters'
  if (/\p{Noncharacter_Code_Point}/u.test(value)) return 'must not contain Unicode non-characters'
  if (!value.isWellFormed()) return 'must not contain lone surrogates'
  return undefined
}

/** Why nobody can publish to this topic, or undefined if it is valid. */
export function topicFault(topic: string, rules: TopicRules): string | undefined {
  if (topic === '') return 'must not be empty'
  if (/[+#]/.test(topic)) return 'must not contain the wildcards + and #'
  return stringFault(topic) ?? dollarFault(topic, rules) ?? levelsFault(topic, rules)
}

/** Why nobody can subscribe to this filter, or undefined if it is valid. `$share/GROUP/FILTER` is valid. */
export function filterFault(filter: string, rules: TopicRules): string | undefined {
  if (filter.startsWith('$share/') && !isShared(filter)) {
    return 'must be $share/GROUP/FILTER with a group free of + and #'
  }
  const plain = plainFilter(filter)
  if (plain === '') return 'must not be empty'
  // For `$share` alone brokers close the connection, and a `$share` inside another one never matches anything.
  if (/^\$share(\/|$)/.test(plain)) return 'must be one $share/GROUP/FILTER, or not begin with $share'
  if (/[^/]#|#./s.test(plain)) return 'must have # only as its last level (in a URL, # has to be sent as %23)'
  if (/[^/]\+|\+[^/]/.test(plain)) return 'must have + only as a whole level'
  return stringFault(filter) ?? dollarFault(plain, rules) ?? levelsFault(filter, rules)
}

/** The parts of a shared subscription (MQTT 5 section 4.8.2), or undefined if it is not one. */
export function parseShare(filter: string): { group: string; filter: string } | undefined {
  if (!filter.startsWith('$share/')) return undefined
  const match = /^\$share\/([^/+#]+)\/(.+)$/s.exec(filter)
  return match ? { group: match[1]!, filter: match[2]! } : undefined
}

export function isShared(filter: string): boolean {
  return parseShare(filter) !== undefined
}

export function hasWildcard(filter: string): boolean {
  return /[+#]/.test(filter)
}

function dollarFault(topic: string, { allowDollar }: TopicRules): string | undefined {
  if (allowDollar || !topic.startsWith('$')) return undefined
  return 'must not begin with $ (CAUSEWAY_ALLOW_DOLLAR_TOPICS allows it)'
}

function levelsFault(topic: string, { levelsMax }: TopicRules): string | undefined {
  // Most topics have fewer characters than that, and need not be split.
  if (topic.length < levelsMax || topic.split('/', levelsMax + 1).length <= levelsMax) return undefined
  return `must not have more than ${levelsMax} levels (CAUSEWAY_TOPIC_LEVELS_MAX)`
}

/** The filter that topics are matched with; for a shared subscription, the part after the group. */
export function plainFilter(filter: string): string {
  return parseShare(filter)?.filter ?? filter
}

/** Whether a topic or filter is this topic or below it. */
export function isBelow(topic: string, above: string): boolean {
  return topic.startsWith(above) && (topic.length === above.length || topic[above.length] === '/')
}

/** Whether some topic matches both filters. */
export function filtersOverlap(a: string, b: string): boolean {
  const left = a.split('/')
  const right = b.split('/')
  // Wildcards at the first level do not match topics that begin with $ [MQTT-4.7.2-1].
  if (a.startsWith('$') !== b.startsWith('$')) return false
  for (let depth = 0; ; depth += 1) {
    const x = left[depth]
    const y = right[depth]
    if (x === '#' || y === '#') return true
    if (x === undefined || y === undefined) return x === y
    if (x !== y && x !== '+' && y !== '+') return false
  }
}

/**
 * Whether every topic that matches the filter also matches the rule, which is a filter too. A topic name is a filter
 * that matches itself only.
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
