/** Splits a stream of text into lines. What comes behind the last line break waits for the rest of its line. */
export class Lines {
  #rest = ''

  /** The lines that are complete with this piece, without their line breaks. */
  push(piece: string): string[] {
    const lines = (this.#rest + piece).split('\n')
    this.#rest = lines.pop()!
    return lines
  }
}
