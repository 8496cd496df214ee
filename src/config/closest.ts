/** Two letters that changed places are a distance of two. At a greater one it is another name. */
const DISTANCE_MAX = 2

/** The name that was probably meant, or undefined where none is similar. */
export function closest(typed: string, names: readonly string[]): string | undefined {
  const [best] = names
    .map((name) => ({ name, distance: distanceOf(typed, name) }))
    .filter(({ name, distance }) => distance <= DISTANCE_MAX && distance < name.length / 2)
    .sort((a, b) => a.distance - b.distance)
  return best?.name
}

/** `; did you mean NAME?`, or nothing where no name is similar. */
export function didYouMean(typed: string, names: readonly string[]): string {
  const name = closest(typed, names)
  return name === undefined ? '' : `; did you mean ${name}?`
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
