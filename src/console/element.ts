type Child = Node | string

/** Properties and attributes: `text` is the text content, `data-…`, `aria-…` and `role` are attributes. */
type Attributes = Record<string, string | number | boolean | undefined>

/**
 * Makes an element. Whatever comes from a message or an answer goes in as text, never as HTML: topics and payloads are
 * what anybody published.
 */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue
    if (name === 'text') made.textContent = String(value)
    else if (name === 'class') made.className = String(value)
    else made.setAttribute(name, value === true ? '' : String(value))
  }
  made.append(...children)
  return made
}

/** The element of the page with an id. The page has all that the modules ask for. */
export function byId<Type extends HTMLElement>(id: string): Type {
  return document.getElementById(id) as Type
}

export type Tone = 'good' | 'warn' | 'bad' | undefined

/** Writes into a status line, and colours it. The text says all that the colour says. */
export function say(line: HTMLElement, text: string, tone?: Tone): void {
  line.textContent = text
  if (tone === undefined) delete line.dataset['tone']
  else line.dataset['tone'] = tone
}
