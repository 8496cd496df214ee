/** When the security fixes of a release line of Node end (nodejs.org/about/previous-releases). */
const END_OF_LIFE: Record<number, string> = {
  20: '2026-04-30',
  22: '2027-04-30',
  24: '2028-04-30',
  26: '2029-04-30',
}
const NEWEST = Math.max(...Object.keys(END_OF_LIFE).map(Number))

/**
 * A warning where this Node gets no security fixes any more, else undefined.
 *
 * @param version as in `process.version`, such as `v20.20.2`
 */
export function nodeWarning(version: string, today: Date): string | undefined {
  const major = Number(/^v(\d+)\./.exec(version)?.[1])
  const end = END_OF_LIFE[major]
  // Odd versions are short-lived. What is newer than this table cannot be judged by it.
  const isOver = end === undefined ? major < NEWEST : today >= new Date(end)
  if (!isOver) return undefined
  const since = end === undefined ? '' : ` since ${end}`
  return `Node ${version} has got no security fixes${since}; use a supported version of Node`
}
