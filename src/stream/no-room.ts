/** The caller, or the process, holds too much memory for one more stream. */
export class NoRoom extends Error {
  constructor() {
    super('Too much memory is held for a stream to be opened')
  }
}
