import { readdirSync, readFileSync } from 'node:fs'

/** How many files and sockets a process has open; undefined on systems other than Linux. */
export function openFiles(pid: number): number | undefined {
  return process.platform === 'linux' ? readdirSync(`/proc/${pid}/fd`).length : undefined
}

/** Resident memory of a process in bytes; undefined on systems other than Linux. */
export function residentBytes(pid: number): number | undefined {
  const kibibytes =
    process.platform === 'linux' ? /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] : undefined
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024
}

/** The lines of a bridge's output that report a problem: those of level warn or above, and any that are no JSON. */
export function complaints(stdout: string): string[] {
  return stdout.split('\n').filter((line) => line !== '' && !/^\{"level":[1-3]0,/.test(line))
}
