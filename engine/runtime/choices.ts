/**
 * Several answers to one prompt (`n`, specs/runtime.md §3.6): as many requests, which share the prompt through the prefix cache and differ in
 * their seeds. The scheduler holds back the others until the first has computed what they share, so the prompt is computed once.
 */
import { LatheError } from '../contract/errors.ts'
import { drawSeed } from './sampling.ts'
import type { GenerationRequest, TokenMaskProvider } from './types.ts'

/**
 * Choice i has the id `<id>#<i>` and seed + i, with a drawn seed where none is given. `maskOf` makes each choice's own provider; a request that
 * has one itself needs it. Throws `runtime.invalid-request` for greedy sampling with n > 1: the answers would be copies.
 */
export function requestsForChoices(
  request: GenerationRequest,
  n: number,
  maskOf?: (choice: number) => TokenMaskProvider | undefined,
): readonly GenerationRequest[] {
  if (!Number.isInteger(n) || n < 1) throw invalid(`n is ${n}.`, 'Ask for a whole number of choices, at least 1.')
  if (n === 1) return [maskOf === undefined ? request : { ...request, mask: maskOf(0) }]
  if (request.sampling.temperature === 0)
    throw invalid(`n is ${n} with temperature 0.`, 'Greedy choices are all the same: raise the temperature.')
  if (request.mask !== undefined && maskOf === undefined) throw invalid(`n is ${n} with one grammar state.`, 'Give each choice its own.')
  const seed = request.sampling.seed === undefined || request.sampling.seed === -1 ? drawSeed() : request.sampling.seed
  return Array.from({ length: n }, (_, choice) => ({
    ...request,
    id: `${request.id}#${choice}`,
    sampling: { ...request.sampling, seed: seed + choice },
    mask: maskOf?.(choice),
  }))
}

function invalid(message: string, hint: string): LatheError {
  return new LatheError('runtime.invalid-request', message, hint)
}
