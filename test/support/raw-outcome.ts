import type { Socket } from 'node:net'

/** The whole of a publish that asks for the end of its connection. */
export const PUBLISH =
  'POST /publish?topic=a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx'

/** The first line of the answer, or the error that the connection ended with. */
export async function outcomeOf(socket: Socket): Promise<string> {
  let text = ''
  socket.setEncoding('latin1').on('data', (piece: string) => (text += piece))
  const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    socket.once('error', resolve)
    socket.once('close', () => resolve(undefined))
  })
  return text.split('\r\n', 1)[0] || error?.code || 'closed without an answer'
}
