/** Answers the calls of a `Worker` in this process, by name. The process ends when the benchmark does. */
export function answerCalls(handlers: Record<string, (argument: never) => unknown>): void {
  process.on('SIGTERM', () => process.exit())
  process.on('disconnect', () => process.exit())
  process.on('message', ({ id, name, argument }: { id: number; name: string; argument: never }) => {
    Promise.resolve()
      .then(() => handlers[name]!(argument))
      .then(
        (result) => process.send!({ id, result }),
        (error: Error) => process.send!({ id, error: error.stack ?? error.message }),
      )
  })
}
