/** What can end a request or the whole core, in words, and how to tell one from the other. */
import { LatheError } from '../contract/errors.ts'
import type { Request } from './request.ts'
import type { PlannedRequest } from './scheduler.ts'

/** Reaches HTTP clients: the model's id, which may be its folder on this machine, is in `data` only. */
export function nonFiniteError({ start, count }: PlannedRequest, modelId: string): LatheError {
  return new LatheError(
    'runtime.non-finite',
    `The model’s output is not a number (NaN or infinity) after token ${start + count} of the sequence.`,
    'Its weights are damaged or overflow in this scheme. Try the original model; if that works, compress again with a finer scheme.',
    { data: { modelId, position: start + count } },
  )
}

/** No token is left to choose: the request asked for what cannot be. */
export function noTokenError({ completionTokens }: Request): LatheError {
  return new LatheError(
    'runtime.no-token',
    `After ${completionTokens} tokens no token is allowed as the next one.`,
    'The request’s form, min_tokens, allowed ids, biases and bad words together leave nothing: allow an end-of-sequence id, or loosen one of them.',
    { data: { completionTokens } },
  )
}

export function closedError(): LatheError {
  return new LatheError('runtime.aborted', 'The model was unloaded.', 'Load it again and repeat the request.')
}

export function isLoss(error: unknown): boolean {
  return error instanceof LatheError && error.code === 'gpu.device-lost'
}

export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}
