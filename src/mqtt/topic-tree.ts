interface Node<Value> {
  children: Map<string, Node<Value>>
  value: Value | undefined
}

/**
 * Values by topic filter, found by topic (MQTT 5 section 4.7). A trie of levels: the cost of a match depends on the
 * levels of the topic and the wildcards that match them, not on the number of filters.
 */
export class TopicTree<Value> {
  readonly #root: Node<Value> = { children: new Map(), value: undefined }
  #size = 0

  get size(): number {
    return this.#size
  }

  get(filter: string): Value | undefined {
    let node: Node<Value> | undefined = this.#root
    for (const level of filter.split('/')) node = node?.children.get(level)
    return node?.value
  }

  /** Replaces the value of the filter, if it has one. */
  set(filter: string, value: Value): void {
    let node = this.#root
    for (const level of filter.split('/')) {
      let child = node.children.get(level)
      if (child === undefined) node.children.set(level, (child = { children: new Map(), value: undefined }))
      node = child
    }
    if (node.value === undefined) this.#size += 1
    node.value = value
  }

  delete(filter: string): void {
    const path = [this.#root]
    const levels = filter.split('/')
    for (const level of levels) {
      const child = path.at(-1)!.children.get(level)
      if (child === undefined) return
      path.push(child)
    }
    const leaf = path.at(-1)!
    if (leaf.value === undefined) return
    leaf.value = undefined
    this.#size -= 1
    for (let depth = levels.length; depth > 0; depth -= 1) {
      const node = path[depth]!
      if (node.value !== undefined || node.children.size > 0) return
      path[depth - 1]!.children.delete(levels[depth - 1]!)
    }
  }

  /** The values of all filters that match, in no particular order. */
  match(topic: string): Value[] {
    const found: Value[] = []
    // Wildcards at the first level do not match topics that begin with $ [MQTT-4.7.2-1].
    collect(this.#root, topic.split('/'), 0, !topic.startsWith('$'), found)
    return found
  }

  /**
   * Whether there is a value of a filter that overlaps with this one, some topic matching both, for which `accept`
   * returns true. It is called until then, in no particular order. See `filtersOverlap`.
   */
  someOverlapping(filter: string, accept: (value: Value) => boolean): boolean {
    return someOverlapping(this.#root, filter.split('/'), 0, accept)
  }

  *values(): Generator<Value> {
    const nodes = [this.#root]
    for (let node = nodes.pop(); node !== undefined; node = nodes.pop()) {
      if (node.value !== undefined) yield node.value
      for (const child of node.children.values()) nodes.push(child)
    }
  }
}

function collect<Value>(node: Node<Value>, levels: string[], depth: number, wildcards: boolean, found: Value[]): void {
  if (wildcards) {
    // `a/#` also matches `a`, so look for # even if no level is left.
    const multiLevel = node.children.get('#')
    if (multiLevel?.value !== undefined) found.push(multiLevel.value)
  }
  if (depth === levels.length) {
    if (node.value !== undefined) found.push(node.value)
    return
  }
  if (wildcards) {
    const singleLevel = node.children.get('+')
    if (singleLevel !== undefined) collect(singleLevel, levels, depth + 1, true, found)
  }
  const exact = node.children.get(levels[depth]!)
  if (exact !== undefined) collect(exact, levels, depth + 1, true, found)
}

function someOverlapping<Value>(
  node: Node<Value>,
  levels: string[],
  depth: number,
  accept: (value: Value) => boolean,
): boolean {
  const level = levels[depth]
  // Wildcards at the first level do not match topics that begin with $ [MQTT-4.7.2-1].
  const isFirst = depth === 0
  const multiLevel = node.children.get('#')?.value
  if (multiLevel !== undefined && !(isFirst && level!.startsWith('$')) && accept(multiLevel)) return true
  if (level === undefined) return node.value !== undefined && accept(node.value)
  if (level === '#') {
    if (!isFirst) return someBelow(node, '#', accept)
    for (const [name, child] of node.children) {
      if (!name.startsWith('$') && name !== '#' && someBelow(child, undefined, accept)) return true
    }
    return false
  }
  if (level === '+') {
    for (const [name, child] of node.children) {
      if (name === '#' || (isFirst && name.startsWith('$'))) continue
      if (someOverlapping(child, levels, depth + 1, accept)) return true
    }
    return false
  }
  const exact = node.children.get(level)
  if (exact !== undefined && someOverlapping(exact, levels, depth + 1, accept)) return true
  if (isFirst && level.startsWith('$')) return false
  const singleLevel = node.children.get('+')
  return singleLevel !== undefined && someOverlapping(singleLevel, levels, depth + 1, accept)
}

/** The same for all values at and below a node, without the child of a name. */
function someBelow<Value>(node: Node<Value>, without: string | undefined, accept: (value: Value) => boolean): boolean {
  if (node.value !== undefined && accept(node.value)) return true
  for (const [name, child] of node.children) {
    if (name !== without && someBelow(child, undefined, accept)) return true
  }
  return false
}
