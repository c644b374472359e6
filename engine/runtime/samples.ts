/** What a step's rows mean for one generating request: which of its guesses were right, which tokens it gains, and whether that ends it. */
import { NO_TOKEN } from '../gpu/check-step.ts'
import type { StepOutput } from '../gpu/program.ts'
import { asError, noTokenError } from './core-errors.ts'
import { finishReason } from './request.ts'
import type { GenerateWork, Request } from './request.ts'
import { refusedToken } from './token-rules.ts'
import type { FinishReason, TokenLogprob } from './types.ts'

export interface Samples {
  readonly tokens: readonly number[]
  readonly logprobs: readonly number[]
  /** Per token; undefined where the request did not ask. */
  readonly top: readonly (readonly TokenLogprob[])[] | undefined
  /** Guesses that were right. */
  readonly accepted: number
  readonly reason: FinishReason | null
  readonly error: Error | null
}

export interface SampleSetting {
  /** The request's first row of the step's output, and how many are its. */
  readonly row: number
  readonly rows: number
  readonly now: number
  readonly contextLimit: number
}

/** Appends to the request what it gains. Row i is what follows if the first i drafts were right; the first one that was not ends the window. */
export function takeSamples(request: Request, work: GenerateWork, output: StepOutput, setting: SampleSetting): Samples {
  const { row, rows, now, contextLimit } = setting
  const topCount = work.topCount ?? 0
  const drafts = request.tokens.slice(request.tokenCount, request.tokenCount + rows - 1)
  const tokens: number[] = []
  const logprobs: number[] = []
  const top: TokenLogprob[][] = []
  let reason: FinishReason | null = null
  let error: Error | null = null
  let accepted = 0
  request.decoding = true
  for (let i = 0; i < rows && reason === null; i++) {
    const token = output.sampled[row + i]
    const logprob = output.sampledLogprob[row + i]
    if (token === undefined || logprob === undefined) throw new Error(`The step returned no token for request ${request.id}`)
    if (token === NO_TOKEN) {
      error = noTokenError(request)
      break
    }
    request.append(token)
    request.firstTokenAt ??= now
    request.lastTokenAt = now
    tokens.push(token)
    logprobs.push(logprob)
    if (topCount > 0) top.push(topOf(output, row + i, topCount))
    reason = finishReason(request, work, contextLimit)
    error = reason === null ? constraintError(request, token) : null
    if (error !== null || token !== drafts[i]) break
    accepted++
  }
  return { tokens, logprobs, top: topCount > 0 ? top : undefined, accepted, reason, error }
}

/** Tells the output constraint of the token; what is wrong with it, if anything. A constraint that throws concerns its own request alone. */
function constraintError({ id, rules }: Request, token: number): Error | null {
  try {
    return rules?.rules.mask?.accept(token) === false ? refusedToken(id, token) : null
  } catch (thrown) {
    return asError(thrown)
  }
}

function topOf({ topIds, topLogprobs, sampled }: StepOutput, row: number, count: number): TokenLogprob[] {
  const width = topIds.length / sampled.length
  return Array.from({ length: count }, (_, i) => ({
    id: topIds[row * width + i] ?? 0,
    logprob: topLogprobs[row * width + i] ?? Number.NaN,
  }))
}
