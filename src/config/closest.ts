/** Two letters that changed places are a distance of two. At a greater one it is another name. */
const DISTANCE_MAX = 2

/** More names would help nobody. */
const NAMES_MAX = 3

/** `; did you mean NAME?`, or nothing where no name is similar. Of several similar ones all are named, up to three. */
export function didYouMean(typed: string, names: readonly string[]): string {
  const misspelt = closest(typed, names)
  const similar = misspelt === undefined ? withSameWords(typed, names) : [misspelt]
  const last = similar.at(-1)
  if (last === undefined) return ''
  const others = similar.slice(0, -1)
  return `; did you mean ${others.length === 0 ? '' : `${others.join(', ')} or `}${last}?`
}

/** The name with the fewest letters that differ. */
function closest(typed: string, names: readonly string[]): string | undefined {
  const [best] = names
    .map((name) => ({ name, distance: distanceOf(typed, name) }))
    .filter(({ name, distance }) => distance <= DISTANCE_MAX && distance < name.length / 2)
    .sort((a, b) => a.distance - b.distance)
  return best?.name
}

/** The names that have all words of what was typed, or of which all words were typed: `--port` for `--http-port`. */
function withSameWords(typed: string, names: readonly string[]): string[] {
  const inAll = wordsOf(typed).filter((word) => names.every((name) => wordsOf(name).includes(word)))
  const rest = (name: string): string[] => wordsOf(name).filter((word) => !inAll.includes(word))
  const typedWords = rest(typed)
  return names
    .map((name) => ({ name, words: rest(name) }))
    .filter(({ words }) => isWithin(typedWords, words) || isWithin(words, typedWords))
    .sort((a, b) => difference(a.words, typedWords) - difference(b.words, typedWords))
    .map(({ name }) => name)
    .slice(0, NAMES_MAX)
}

function wordsOf(name: string): string[] {
  return name.split(/[-_]+/).filter((word) => word !== '')
}

function isWithin(words: readonly string[], others: readonly string[]): boolean {
  return words.length > 0 && words.every((word) => others.includes(word))
}

function difference(words: readonly string[], others: readonly string[]): number {
  return Math.abs(words.length - others.length)
}

/** How many letters have to be put in, left out or changed to make one of the other (Levenshtein). */
function distanceOf(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index)
  for (const [index, letter] of [...one].entries()) {
    const next = [index + 1]
    for (let column = 0; column < other.length; column += 1) {
      const changed = row[column]! + (letter === other[column] ? 0 : 1)
      next.push(Math.min(changed, row[column + 1]! + 1, next[column]! + 1))
    }
    row = next
  }
  return row[other.length]!
}
