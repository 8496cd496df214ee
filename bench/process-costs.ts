import { readFileSync } from 'node:fs'

/** Resident memory of a process in bytes, on Linux. */
export function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024
}

const TICKS_A_SECOND = 100

/** Seconds of processor time that a process has used, in user and kernel mode, on Linux. */
export function cpuSeconds(pid: number): number {
  const [userTicks, systemTicks] = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .split(') ')[1]!
    .split(' ')
    .slice(11, 13)
    .map(Number)
  return (userTicks! + systemTicks!) / TICKS_A_SECOND
}
