/**
 * What the output of a step means for the requests that were part of it: tokens taken, prompts and scores that grew, ends. Decides nothing about
 * what runs next (scheduler.ts) and sends nothing (core.ts).
 */
import type { StepOutput } from '../gpu/program.ts'
import { nonFiniteError } from './core-errors.ts'
import type { RequestEnd, RequestOutput } from './core-messages.ts'
import type { CoreStatistics } from './core-statistics.ts'
import type { Request } from './request.ts'
import { takeSamples } from './samples.ts'
import type { PlannedRequest, Scheduler } from './scheduler.ts'
import type { Speculator } from './speculation/speculator.ts'
import type { StepResult } from './step-runner.ts'
import type { FinishReason } from './types.ts'

export interface StepApplierParts {
  readonly scheduler: Scheduler
  readonly statistics: CoreStatistics
  readonly speculator: Speculator | null
  readonly contextLimit: number
  readonly modelId: string
  /** Lets go of a request that the scheduler no longer has. */
  readonly end: (request: Request, end: RequestEnd) => RequestOutput
}

export class StepApplier {
  readonly #parts: StepApplierParts

  constructor(parts: StepApplierParts) {
    this.#parts = parts
  }

  /** One output for each request that has something to tell, in the order of the plan. */
  apply({ plan, output }: StepResult, now: number): RequestOutput[] {
    const outputs: RequestOutput[] = []
    let row = 0
    for (const entry of plan.entries) {
      if (output.nonFinite) {
        this.#parts.scheduler.discard(entry.request)
        outputs.push(this.#parts.end(entry.request, { kind: 'failed', error: nonFiniteError(entry, this.#parts.modelId) }))
      } else {
        const applied = this.#applyEntry(entry, output, row, now)
        if (applied !== null) outputs.push(applied)
      }
      row += entry.rows
    }
    return outputs
  }

  #applyEntry({ request, count, rows }: PlannedRequest, output: StepOutput, row: number, now: number): RequestOutput | null {
    const { work, id } = request
    const computedBefore = request.computed - count
    this.#parts.statistics.promptTokens += Math.max(
      0,
      Math.min(request.computed, request.promptCount) - Math.min(computedBefore, request.promptCount),
    )
    if (work.kind === 'score') {
      if (rows === 0) return null
      request.record({ ...output, topCount: topCountOf(output) }, row, rows)
      const total = request.tokenCount - work.from
      const progress = { done: request.scored - work.from, total }
      if (request.scored < request.tokenCount) return { id, progress, tokens: [], logprobs: [], end: null }
      this.#parts.scheduler.remove(request)
      return { ...this.#parts.end(request, { kind: 'scored', result: request.result }), progress }
    }
    if (work.kind === 'reserved') throw new Error(`Request ${id} holds blocks only and cannot be part of a step`)
    const { cachedTokens: cached } = request
    const progress = request.decoding ? null : { done: request.computed, total: request.tokenCount, ...(cached > 0 && { cached }) }
    if (rows === 0) return { id, progress, tokens: [], logprobs: [], end: null }

    const outcome = takeSamples(request, work, output, {
      row,
      rows,
      now,
      contextLimit: this.#parts.contextLimit,
    })
    const { tokens, logprobs, top, reason, error } = outcome
    this.#parts.statistics.generatedTokens += tokens.length
    if (rows > 1) this.#parts.speculator?.verified(request, rows - 1, outcome.accepted)
    request.draftCount = 0
    // What was computed beyond the known tokens is overwritten by the next step; nothing is read beyond them.
    request.computed = Math.min(request.computed, request.tokenCount - 1)
    const produced = { progress, tokens, logprobs, top }
    if (error !== null) {
      this.#parts.scheduler.remove(request)
      return { ...this.#parts.end(request, { kind: 'failed', error }), ...produced }
    }
    if (reason === null) return { id, ...produced, end: null }
    this.#parts.scheduler.remove(request)
    return { ...this.#parts.end(request, finishedEnd(request, reason, now)), ...produced }
  }
}

export function finishedEnd(request: Request, reason: FinishReason, now: number): RequestEnd {
  const stopTokenId = reason === 'stop' ? (request.tokens[request.tokenCount - 1] ?? null) : null
  return { kind: 'finished', reason, stopTokenId, stats: request.stats(now) }
}

function topCountOf(output: StepOutput): number {
  return output.sampled.length === 0 ? 0 : output.topIds.length / output.sampled.length
}
