import { readdirSync, readFileSync } from 'node:fs'

/** A process and those that it has started, on Linux. */
export function withChildren(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return [pid, ...(children === '' ? [] : children.split(' ').map(Number))]
}

/** Resident memory of a process in bytes, on Linux. */
export function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024
}

/**
 * Seconds of processor time that the threads of a process have used, in user and kernel mode, on Linux. In nanoseconds
 * where `/proc/PID/stat` counts in hundredths of a second, which is nothing for a short piece of work.
 */
export function cpuSeconds(pid: number): number {
  const tasks = `/proc/${pid}/task`
  return readdirSync(tasks).reduce((sum, id) => sum + nanosecondsOf(`${tasks}/${id}`), 0) / 1e9
}

function nanosecondsOf(task: string): number {
  try {
    return Number(readFileSync(`${task}/schedstat`, 'utf8').split(' ', 1)[0])
  } catch {
    // The thread has ended meanwhile.
    return 0
  }
}
