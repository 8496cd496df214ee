import { readdirSync, readFileSync } from 'node:fs'

/** Files and sockets a process has open; undefined where the system does not say. */
export function openFiles(pid: number): number | undefined {
  return process.platform === 'linux' ? readdirSync(`/proc/${pid}/fd`).length : undefined
}

/** Bytes of memory a process has; undefined where the system does not say. */
export function residentBytes(pid: number): number | undefined {
  const kibibytes =
    process.platform === 'linux' ? /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] : undefined
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024
}

/** The lines of a bridge's log that say something is wrong: warnings and worse, and what is no log line at all. */
export function complaints(stdout: string): string[] {
  return stdout.split('\n').filter((line) => line !== '' && !/^\{"level":[1-3]0,/.test(line))
}
