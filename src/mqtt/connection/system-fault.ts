/** What errors of the operating system mean when a connection fails. */
const FAULTS: Record<string, string> = {
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'the connection was reset',
  ENOTFOUND: 'no such host name is known',
  EAI_AGAIN: 'the host name could not be looked up',
  EHOSTUNREACH: 'the host cannot be reached',
  ENETUNREACH: 'the network cannot be reached',
  ENOENT: 'there is no such socket',
  EACCES: 'the socket may not be used by this user',
  EMFILE: 'the process has no file descriptor left; raise `ulimit -n`',
}

/** What is wrong, in words; undefined if the code is not one of these. */
export function systemFault(code: string): string | undefined {
  return Object.hasOwn(FAULTS, code) ? FAULTS[code] : undefined
}
