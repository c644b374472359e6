/**
 * A runtime whose next-token distribution is a given table p(next | previous): every figure that evaluation computes from it can be
 * worked out by hand. Used by tests of evaluation and benchmark only.
 */
import type { DriftRows } from '../../gpu/program.ts'
import type { GenerationEvent, Runtime, RuntimeInfo, ScoreRequest, ScoreResult } from '../../runtime/types.ts'

export type NextTokenTable = (previous: number) => readonly number[]

export interface TableRuntime extends Runtime {
  readonly table: NextTokenTable
  readonly scored: ScoreRequest[]
}

/** Text of token 0, 1, … in answers. */
export const LETTERS = 'abcdefgh'

function argmaxOf(probabilities: readonly number[]): number {
  return probabilities.indexOf(Math.max(...probabilities))
}

export function createTableRuntime(modelId: string, table: NextTokenTable, vocabulary: number, contextLimit = 1024): TableRuntime {
  const info: RuntimeInfo = {
    modelId,
    adapterId: 'table',
    software: true,
    contextLimit,
    modelContextLimit: contextLimit,
    maxSequences: 1,
    kvDtype: 'f32',
    vocabulary,
    eosTokenIds: [],
    defaultSampling: { temperature: 0, topK: 0, topP: 1, minP: 0 },
    weightBytes: 100,
    kvBytes: 10,
    otherBytes: 1,
    loadMs: 250,
  }
  const scored: ScoreRequest[] = []
  return {
    info,
    table,
    scored,
    active: 0,
    failure: null,
    telemetry() {
      throw new Error('A table runtime has no loop to report on.')
    },
    async score(request): Promise<ScoreResult> {
      scored.push(request)
      const count = request.tokens.length - request.from
      const logprobs = new Float32Array(count)
      const argmax = new Uint32Array(count)
      const { topCount = 0 } = request
      const topIds = new Uint32Array(count * topCount)
      const topLogprobs = new Float32Array(count * topCount)
      for (let j = 0; j < count; j++) {
        const probabilities = table(request.tokens[request.from + j - 1]!)
        logprobs[j] = Math.log(probabilities[request.tokens[request.from + j]!]!)
        argmax[j] = argmaxOf(probabilities)
        const ranked = Array.from(probabilities.keys()).toSorted((a, b) => probabilities[b]! - probabilities[a]! || a - b)
        for (const [rank, id] of ranked.slice(0, topCount).entries()) {
          topIds[j * topCount + rank] = id
          topLogprobs[j * topCount + rank] = Math.log(probabilities[id]!)
        }
      }
      return { logprobs, argmax, topIds, topLogprobs }
    },
    async *generate(request): AsyncGenerator<GenerationEvent> {
      yield { kind: 'prefill', done: request.promptTokens.length, total: request.promptTokens.length }
      const completionTokens = request.maxTokens ?? 1
      const { topLogprobs = 0 } = request
      // A benchmark looks at times only; who asks for log-probabilities gets greedy tokens, each by the table, with letters as text.
      let previous = request.promptTokens.at(-1) ?? 0
      const told = topLogprobs > 0 ? completionTokens : 0
      for (let i = 0; i < told; i++) {
        const ranked = table(previous)
          .map((probability, id) => ({ id, logprob: Math.log(probability) }))
          .toSorted((a, b) => b.logprob - a.logprob)
        const { id, logprob } = ranked[0]!
        yield { kind: 'tokens', ids: [id], logprobs: [logprob], text: LETTERS[id] ?? '', top: [ranked.slice(0, topLogprobs)] }
        previous = id
      }
      // Prefill of 100 ms after a queue of 20 ms, then 10 ms a token: the benchmark must recover exactly these.
      yield {
        kind: 'finished',
        reason: 'length',
        stopString: null,
        stopTokenId: null,
        stats: {
          promptTokens: request.promptTokens.length,
          cachedTokens: 0,
          completionTokens,
          queueMs: 20,
          firstTokenMs: 120,
          lastTokenMs: 120 + 10 * (completionTokens - 1),
          totalMs: 120 + 10 * completionTokens,
          preemptions: 0,
          seed: 0,
        },
      }
    },
    async [Symbol.asyncDispose]() {},
  }
}

/** Lock-step scoring of two table runtimes, by the definition of KL divergence. */
export async function scoreTablePair(baseline: Runtime, candidate: Runtime, request: ScoreRequest): Promise<DriftRows> {
  const p = (baseline as TableRuntime).table
  const q = (candidate as TableRuntime).table
  const [a, b] = [await baseline.score(request), await candidate.score(request)]
  const kld = Float32Array.from(a.logprobs, (_, j) => {
    const previous = request.tokens[request.from + j - 1]!
    const other = q(previous)
    return p(previous).reduce((sum, value, v) => sum + (value > 0 ? value * Math.log(value / other[v]!) : 0), 0)
  })
  return { kld, baselineArgmax: a.argmax, candidateArgmax: b.argmax, baselineTargetLogprob: a.logprobs, candidateTargetLogprob: b.logprobs }
}
