/** What a topic or filter may be here, beyond what MQTT 5 section 4.7 says. */
export interface TopicRules {
  /** Most levels, those of `$share/GROUP` too; Mosquitto closes the connection over more than 201, Aedes over more than 100. */
  levelsMax: number
  /** Whether a topic or filter may begin with `$`. */
  allowDollar: boolean
}

const MAX_STRING_BYTES = 65_535

/**
 * Why brokers would not take this as an MQTT UTF-8 string (section 1.5.4), or undefined where they would.
 * Control and non-characters are only discouraged there, but Mosquitto closes the connection over them.
 */
export function stringFault(value: string): string | undefined {
  // Most are, and Unicode's properties take ten times as long to look up.
  if (value.length <= MAX_STRING_BYTES && /^[\x20-\x7e]*$/.test(value)) return undefined
  if (Buffer.byteLength(value) > MAX_STRING_BYTES) return `must not be longer than ${MAX_STRING_BYTES} bytes`
  if (/\p{Cc}/u.test(value)) return 'must not contain control characters'
  if (/\p{Noncharacter_Code_Point}/u.test(value)) return 'must not contain Unicode non-characters'
  if (!value.isWellFormed()) return 'must not contain lone surrogates'
  return undefined
}

/** Why this is no topic one can publish to, or undefined where it is one. */
export function topicFault(topic: string, rules: TopicRules): string | undefined {
  if (topic === '') return 'must not be empty'
  if (/[+#]/.test(topic)) return 'must not contain the wildcards + and #'
  return stringFault(topic) ?? dollarFault(topic, rules) ?? levelsFault(topic, rules)
}

/** Why this is no filter one can subscribe to, or undefined where it is one. `$share/GROUP/FILTER` is one. */
export function filterFault(filter: string, rules: TopicRules): string | undefined {
  if (filter.startsWith('$share/') && !isShared(filter)) {
    return 'must be $share/GROUP/FILTER with a group free of + and #'
  }
  const plain = plainFilter(filter)
  if (plain === '') return 'must not be empty'
  // Brokers close the connection over a bare $share and never match a nested one.
  if (/^\$share(\/|$)/.test(plain)) return 'must be one $share/GROUP/FILTER, or not begin with $share'
  if (/[^/]#|#./s.test(plain)) return 'must have # only as its last level (in a URL, # has to be sent as %23)'
  if (/[^/]\+|\+[^/]/.test(plain)) return 'must have + only as a whole level'
  return stringFault(filter) ?? dollarFault(plain, rules) ?? levelsFault(filter, rules)
}

/** The parts of a shared subscription (section 4.8.2), or undefined where it is none. */
export function parseShare(filter: string): { group: string; filter: string } | undefined {
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
  // Most have not even so many characters.
  if (topic.length < levelsMax || topic.split('/', levelsMax + 1).length <= levelsMax) return undefined
  return `must not have more than ${levelsMax} levels (CAUSEWAY_TOPIC_LEVELS_MAX)`
}

/** The filter whose topics a subscription gets: of a shared one, the filter behind its group. */
export function plainFilter(filter: string): string {
  return parseShare(filter)?.filter ?? filter
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
