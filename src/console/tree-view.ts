import { element } from './element.ts'
import { isOpen, type TopicNode, type TopicTree } from './topic-tree.ts'
import { visible } from './visible.ts'

const ROWS_MAX = 400
const NAME_MAX = 80
const VALUE_MAX = 60

interface Row {
  element: HTMLElement
  node: TopicNode
  twisty: HTMLElement
  value: HTMLElement
  rate: HTMLElement
}

/**
 * Shows the topic tree (WAI-ARIA tree view). The arrow keys move, open and close; Enter, or a click on the name,
 * chooses a branch.
 */
export class TreeView {
  readonly #tree: TopicTree
  readonly #root: HTMLElement
  readonly #onChosen: (path: string | undefined) => void
  #rows = new Map<string, Row>()
  #chosen: string | undefined
  /** The path of the row that has the focus, or had it last. */
  #active = ''

  constructor(root: HTMLElement, tree: TopicTree, onChosen: (path: string | undefined) => void) {
    this.#root = root
    this.#tree = tree
    this.#onChosen = onChosen
    root.addEventListener('keydown', (event) => this.#onKey(event))
    root.addEventListener('focusin', ({ target }) => this.#onFocus(target as HTMLElement))
    // Then the Tab key comes to the tree again, and from there to the row that had the focus.
    root.addEventListener('focusout', () => (root.tabIndex = 0))
    root.addEventListener('click', (event) => this.#onClick(event))
  }

  /** Shows the tree as it is now. Rows stay the same elements, so that focus and position stay. */
  render(): void {
    const nodes = this.#tree.visibleRows(ROWS_MAX)
    const rows = new Map<string, Row>()
    const shown = new Set(nodes.map(({ path }) => path))
    // First, as a row that has to be moved would lose the focus.
    for (const [path, row] of this.#rows) if (!shown.has(path)) row.element.remove()
    let next = this.#root.firstElementChild
    for (const each of nodes) {
      const row = this.#rows.get(each.path) ?? makeRow(each)
      row.node = each
      rows.set(each.path, row)
      if (row.element === next) next = next.nextElementSibling
      else this.#root.insertBefore(row.element, next)
      this.#update(row)
    }
    this.#rows = rows
  }

  choose(path: string | undefined): void {
    this.#chosen = path
    this.#onChosen(path)
    this.render()
  }

  #rowOf(target: Element | null): Row | undefined {
    return [...this.#rows.values()].find((row) => row.element.contains(target))
  }

  #onFocus(target: HTMLElement): void {
    const row = this.#rowOf(target)
    if (row === undefined) return (this.#rows.get(this.#active) ?? [...this.#rows.values()][0])?.element.focus()
    this.#active = row.node.path
    this.#root.tabIndex = -1
  }

  #update({ element: row, node, twisty, value, rate }: Row): void {
    const isBranch = node.children.size > 0
    if (isBranch) row.setAttribute('aria-expanded', String(isOpen(node)))
    row.setAttribute('aria-selected', String(node.path === this.#chosen))
    setText(twisty, isBranch ? (isOpen(node) ? '▾' : '▸') : '')
    setText(value, node.value === undefined ? '' : visible(node.value, VALUE_MAX))
    setText(rate, node.rate > 0 ? `${rateText(node.rate)}/s` : String(node.count))
  }

  #onClick(event: MouseEvent): void {
    const target = event.target as HTMLElement
    const row = this.#rowOf(target)
    if (row === undefined) return
    row.element.focus()
    if (target === row.twisty) this.#toggle(row.node, !isOpen(row.node))
    else this.#choose(row.node)
  }

  #onKey(event: KeyboardEvent): void {
    const row = this.#rowOf(document.activeElement)
    if (row === undefined) return
    const rows = [...this.#rows.values()]
    const index = rows.indexOf(row)
    const { node } = row
    const moves: Record<string, () => void> = {
      ArrowDown: () => rows[index + 1]?.element.focus(),
      ArrowUp: () => rows[index - 1]?.element.focus(),
      Home: () => rows[0]!.element.focus(),
      End: () => rows.at(-1)!.element.focus(),
      ArrowRight: () => (isOpen(node) ? rows[index + 1]?.element.focus() : this.#toggle(node, true)),
      ArrowLeft: () =>
        isOpen(node) && node.children.size > 0 ? this.#toggle(node, false) : this.#parentOf(row)?.element.focus(),
      Enter: () => this.#choose(node),
      ' ': () => this.#choose(node),
    }
    const move = moves[event.key]
    if (move === undefined) return
    event.preventDefault()
    move()
  }

  #parentOf({ node }: Row): Row | undefined {
    return node.level === 1 ? undefined : this.#rows.get(node.path.slice(0, -node.name.length - 1))
  }

  #choose({ path }: TopicNode): void {
    this.choose(path === this.#chosen ? undefined : path)
  }

  #toggle(node: TopicNode, opened: boolean): void {
    if (node.children.size === 0) return
    node.opened = opened
    this.render()
  }
}

function makeRow(node: TopicNode): Row {
  const twisty = element('span', { class: 'twisty', 'aria-hidden': 'true' })
  const value = element('span', { class: 'value' })
  const rate = element('span', { class: 'rate' })
  const name = element('span', { class: 'name', text: node.name === '' ? '(empty)' : visible(node.name, NAME_MAX) })
  const row = element(
    'div',
    { class: 'tree-row', role: 'treeitem', tabindex: -1, 'aria-level': node.level },
    twisty,
    name,
    value,
    rate,
  )
  row.style.setProperty('--level', String(node.level - 1))
  return { element: row, node, twisty, value, rate }
}

function setText(target: HTMLElement, text: string): void {
  if (target.textContent !== text) target.textContent = text
}

function rateText(rate: number): string {
  return rate >= 10 ? Math.round(rate).toLocaleString() : rate.toFixed(rate >= 1 ? 1 : 2)
}
