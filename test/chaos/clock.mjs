// Loaded before the bridge: on SIGUSR2 its clock jumps by as many milliseconds as this file says.
import { readFileSync } from 'node:fs'

const RealDate = globalThis.Date
let offset = 0

globalThis.Date = class Date extends RealDate {
  constructor(...parts) {
    if (parts.length === 0) super(RealDate.now() + offset)
    else super(...parts)
  }

  static now() {
    return RealDate.now() + offset
  }
}

process.on('SIGUSR2', () => {
  offset = Number(readFileSync(process.env.CHAOS_CLOCK_FILE, 'utf8'))
})
