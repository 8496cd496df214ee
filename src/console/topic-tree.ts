/** One level of a topic. */
export interface TopicNode {
  /** The level alone. */
  name: string
  /** The whole topic down to here. */
  path: string
  level: number
  children: Map<string, TopicNode>
  /** Messages on this topic and below. */
  count: number
  /** The same a second, lately. */
  rate: number
  /** The beginning of the last payload on exactly this topic. */
  value: string | undefined
  /** What the user chose; undefined where the number of its children decides. */
  opened: boolean | undefined
}

/** Levels and branches that are opened by themselves, so that a small tree is seen at once. */
const OPENED_LEVELS = 3
const OPENED_CHILDREN = 12
/** How much of the newest rate is in the rate. */
const SMOOTHING = 0.4

/** The topics that were seen, with their last values and rates. Bounded: further topics are only counted. */
export class TopicTree {
  readonly #nodesMax: number
  readonly #root = node('', '', 0)
  readonly #nodes: TopicNode[] = []
  readonly #countsBefore = new Map<TopicNode, number>()
  #ratedAt: number
  /** Messages on topics that are not in the tree. */
  unplaced = 0

  constructor(nodesMax: number, now: number) {
    this.#nodesMax = nodesMax
    this.#ratedAt = now
  }

  add(topic: string, value: string): void {
    let at = this.#root
    const path: TopicNode[] = []
    for (const name of topic.split('/')) {
      let child = at.children.get(name)
      if (child === undefined) {
        if (this.#nodes.length >= this.#nodesMax) {
          this.unplaced += 1
          break
        }
        child = node(name, at === this.#root ? name : `${at.path}/${name}`, at.level + 1)
        at.children.set(name, child)
        this.#nodes.push(child)
      }
      path.push(child)
      at = child
    }
    for (const passed of path) passed.count += 1
    if (at.path === topic && at !== this.#root) at.value = value
  }

  /** To be called about once a second. */
  updateRates(now: number): void {
    const seconds = (now - this.#ratedAt) / 1000
    if (seconds <= 0) return
    this.#ratedAt = now
    for (const each of this.#nodes) {
      const rate = (each.count - (this.#countsBefore.get(each) ?? 0)) / seconds
      this.#countsBefore.set(each, each.count)
      each.rate = each.rate === 0 ? rate : each.rate + SMOOTHING * (rate - each.rate)
      if (each.rate < 0.01) each.rate = 0
    }
  }

  /** The rows that are open, from top to bottom, at most so many. */
  visibleRows(rowsMax: number): TopicNode[] {
    const rows: TopicNode[] = []
    const walk = (parent: TopicNode): void => {
      const children = [...parent.children.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
      for (const child of children) {
        if (rows.length >= rowsMax) return
        rows.push(child)
        if (isOpen(child)) walk(child)
      }
    }
    walk(this.#root)
    return rows
  }

  clear(): void {
    this.#root.children.clear()
    this.#nodes.length = 0
    this.#countsBefore.clear()
    this.unplaced = 0
  }
}

/** Whether the children of a node are shown. */
export function isOpen({ opened, level, children }: TopicNode): boolean {
  return opened ?? (level < OPENED_LEVELS && children.size <= OPENED_CHILDREN)
}

function node(name: string, path: string, level: number): TopicNode {
  return { name, path, level, children: new Map(), count: 0, rate: 0, value: undefined, opened: undefined }
}
