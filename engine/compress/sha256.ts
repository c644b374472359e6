/** SHA-256 of something small, as hexadecimal. Tensors are hashed piece by piece in tensor-work.ts. */
import { createHash } from 'node:crypto'

export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}
