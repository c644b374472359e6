/** Whether an address can be listened on, asked before a model is loaded for it, and what to do where it can't. */
import { createServer } from 'node:http'
import { LatheError } from '../contract/errors.ts'

export interface ListenAddress {
  readonly host: string
  /** 0 = any free one. */
  readonly port: number
}

/** Opens the address and closes it again. Throws what listenError() makes of a refusal. */
export async function checkAddress({ host, port }: ListenAddress): Promise<void> {
  const probe = createServer()
  try {
    await new Promise<void>((resolve, reject) => {
      probe.once('error', reject)
      probe.listen(port, host, resolve)
    })
  } catch (error) {
    throw listenError(error, { host, port })
  }
  await new Promise<void>((resolve) => probe.close(() => resolve()))
}

/** A socket's refusal in words; anything else as it is. */
export function listenError(error: unknown, { host, port }: ListenAddress): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : null
  const refused = (message: string, hint: string): LatheError => new LatheError('request.invalid', message, hint, { cause: error })
  if (code === 'EADDRINUSE')
    return refused(`Port ${port} is in use.`, `Choose another port such as ${nextPort(port)}, or 0 for any free one.`)
  if (code === 'EACCES') return refused(`Port ${port} may not be opened.`, 'Use a port above 1023.')
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return refused(`${host} is no address of this machine.`, 'Use 127.0.0.1, or 0.0.0.0 for every interface.')
  return error
}

function nextPort(port: number): number {
  return port < 65_535 ? port + 1 : 8000
}
