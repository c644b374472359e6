/**
 * Everything that can go wrong, as one shape that an ErrorCard can show.
 * The engine's own errors arrive typed (LATHE with an ErrorShape); a lost connection gets a code of ours; anything else is a defect and says so.
 */
import { ORPCError } from '@orpc/client'
import { ErrorSchema, toErrorShape } from '../../engine/contract/index.ts'

export interface UiError {
  readonly code: string
  readonly message: string
  readonly hint: string
  readonly data?: Readonly<Record<string, unknown>> | undefined
}

/** Thrown by calls that were under way when the connection to the engine broke. */
export class DisconnectedError extends Error {
  override readonly name = 'DisconnectedError'
}

export function toUiError(thrown: unknown): UiError {
  if (thrown instanceof DisconnectedError) {
    return {
      code: 'engine.disconnected',
      message: 'The engine stopped before it could answer.',
      hint: 'Lathe reconnects by itself. Try again once the banner at the top is gone.',
    }
  }
  if (thrown instanceof ORPCError) {
    const shape = ErrorSchema.safeParse(thrown.data)
    if (shape.success) return shape.data
    if (thrown.code === 'FORBIDDEN' || thrown.code === 'UNAUTHORIZED') {
      return {
        code: 'request.forbidden',
        message: 'The engine refused this page.',
        hint: 'Open the address that Lathe printed when it started.',
      }
    }
    if (thrown.code === 'BAD_REQUEST') {
      return {
        code: 'request.invalid',
        message: thrown.message,
        hint: 'The page and the engine disagree about this request. Reload the page.',
      }
    }
  }
  return toErrorShape(thrown)
}
