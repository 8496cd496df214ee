import { CausewayError } from '../../errors.ts'

/** How often it is looked at whether anything came, in parts of the timeout. */
const LOOKS = 4

/**
 * Waits for an answer for as long as anything arrives. On a slow link the messages in front of an answer may take far
 * longer than the answer itself may.
 * @param bytesRead how much has arrived so far
 * @param timeoutMs how long nothing may arrive
 * @throws CausewayError once nothing has arrived for that long
 */
export async function untilSilent<Answer>(
  answer: Promise<Answer>,
  bytesRead: () => number,
  timeoutMs: number,
): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined
  const silence = new Promise<never>((_resolve, reject) => {
    let before = bytesRead()
    let silentLooks = 0
    timer = setInterval(() => {
      const now = bytesRead()
      silentLooks = now === before ? silentLooks + 1 : 0
      before = now
      if (silentLooks < LOOKS) return
      reject(
        new CausewayError('acknowledgement-timeout', `Nothing came from the broker for ${timeoutMs} ms`, {
          outcome: 'unknown',
        }),
      )
    }, timeoutMs / LOOKS)
  })
  try {
    return await Promise.race([answer, silence])
  } finally {
    clearInterval(timer)
  }
}
