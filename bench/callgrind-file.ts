/** Where V8 has put which code, by the file that `--perf-basic-prof` writes. Code that was moved is in it twice. */
export class CodeMap {
  readonly #entries: { start: number; end: number; name: string }[] = []

  constructor(text: string) {
    for (const line of text.split('\n')) {
      const [start, size, name] = /^([\da-f]+) ([\da-f]+) (.*)$/.exec(line)?.slice(1) ?? []
      if (start === undefined) continue
      const from = Number.parseInt(start, 16)
      this.#entries.push({ start: from, end: from + Number.parseInt(size!, 16), name: name! })
    }
    // Stable: of two that begin at the same place, the later one is the last.
    this.#entries.sort((one, other) => one.start - other.start)
  }

  /** The name of the code at an address, such as `JS:*publish mqtt.js:2596:9`; undefined where there is none. */
  nameAt(address: number): string | undefined {
    let [from, to] = [0, this.#entries.length]
    while (from < to) {
      const middle = (from + to) >> 1
      if (this.#entries[middle]!.start <= address) from = middle + 1
      else to = middle
    }
    for (let index = from - 1; index >= 0 && index > from - LOOK_BACK; index -= 1) {
      const { end, name } = this.#entries[index]!
      if (address < end) return name
    }
    return undefined
  }
}

/** How many entries that begin before an address may end before it, of code that was moved and made smaller. */
const LOOK_BACK = 40

/**
 * The instructions that each function executes itself, by a file of callgrind (valgrind's manual, "Callgrind Format
 * Specification"). Functions of V8's code have their address as their name there, and get that of `code`.
 */
export function functionsIn(text: string, code: CodeMap): Map<string, number> {
  const total = new Map<string, number>()
  const names = new Map<string, string>()
  let name = ''
  let isCall = false
  for (const line of text.split('\n')) {
    if (line.startsWith('fn=') || line.startsWith('cfn=')) {
      const [id, given] = /=(\(\d+\))(?: (.*))?$/.exec(line)!.slice(1)
      if (given !== undefined) names.set(id!, plainName(given, code))
      if (line.startsWith('fn=')) name = names.get(id!)!
    } else if (line.startsWith('calls=')) {
      // The next line has what the called function costs.
      isCall = true
    } else if (/^[\d+*-]/.test(line)) {
      if (!isCall) total.set(name, (total.get(name) ?? 0) + Number(line.split(' ')[1]))
      isCall = false
    }
  }
  return total
}

function plainName(given: string, code: CodeMap): string {
  // A quote and a number tell the levels of a recursion apart.
  const name = given.replace(/'\d+$/, '')
  const address = /^0x([\da-f]+)$/.exec(name)?.[1]
  return (address && code.nameAt(Number.parseInt(address, 16))) ?? name
}
