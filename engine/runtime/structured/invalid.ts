/** The one error of this folder: something asked for can't be enforced. */
import { LatheError } from '../../contract/errors.ts'

export function invalid(message: string, hint: string): LatheError {
  return new LatheError('runtime.invalid-request', message, hint)
}
