/** The sizes that the issue names take minutes; the brief form proves the same with less, for every change. */
export const long = process.env['CAUSEWAY_TEST_LONG'] === '1'

export const sized = (brief: number, full: number) => (long ? full : brief)

export const MIB = 2 ** 20

/** Longest time for an attack, in milliseconds; what takes longer is a failure. */
export const ATTACK_MS = sized(45_000, 180_000)
