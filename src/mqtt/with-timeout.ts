import { CausewayError } from '../errors.ts'

/**
 * Waits for the broker's answer to a SUBSCRIBE, UNSUBSCRIBE or PINGREQ.
 * @throws CausewayError after the timeout
 */
export async function withTimeout<Answer>(answer: Promise<Answer>, timeoutMs: number): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new CausewayError('acknowledgement-timeout', `The broker did not answer within ${timeoutMs} ms`, {
            outcome: 'unknown',
          }),
        ),
      timeoutMs,
    )
  })
  try {
    return await Promise.race([answer, timeout])
  } finally {
    clearTimeout(timer)
  }
}
