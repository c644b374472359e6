/**
 * Two models on the same tokens, in lock-step: step the one, step the other, and let the device reduce both sets of logits to a few numbers
 * per row before either is overwritten. Full logits never leave the device.
 *
 * The blocks for both sequences wait their turn in each core's queue, and each slice runs between two steps of both cores, so that chats go on
 * beside a comparison.
 */
import { LatheError } from '../contract/errors.ts'
import type { DriftRows, Executable, StepInput } from '../gpu/program.ts'
import { DisaggregatedRuntime } from './disaggregation/disaggregated-runtime.ts'
import { LocalRuntime } from './local-runtime.ts'
import { Request } from './request.ts'
import { validateScore } from './sampling.ts'
import { StepBuilder } from './step-builder.ts'
import type { Runtime, ScoreRequest } from './types.ts'

/** Throws `evaluate.incomparable` for models that cannot be compared token by token, and what `Runtime.score` throws. */
export async function scorePair(baseline: Runtime, candidate: Runtime, request: ScoreRequest): Promise<DriftRows> {
  const pair = [localOf(baseline), localOf(candidate)] as const
  checkComparable(...pair)
  for (const { info } of pair) validateScore(request, info)
  const { tokens, from, signal, onProgress } = request
  // Cores are always taken in the order of their age, so that two comparisons of the same models cannot wait for each other.
  const distinct = [...new Set(pair)].toSorted((a, b) => a.core.serial - b.core.serial)
  using reservations = new DisposableStack()
  const sequences = new Map<LocalRuntime, SteppedSequence>()
  for (const runtime of distinct) {
    const reservation = reservations.use(await runtime.reserve(tokens, signal))
    sequences.set(runtime, new SteppedSequence(runtime, request, reservation.table))
  }

  const result = emptyDrift(tokens.length - from)
  const target = tokens.length - 1
  const capacities = distinct.map(({ core }) => core.executable.capacity)
  const mostTokens = Math.min(...capacities.map((capacity) => capacity.tokens))
  const mostRows = Math.min(...capacities.map((capacity) => capacity.rows))
  for (let start = 0; start < target;) {
    if (signal?.aborted === true)
      throw new LatheError('runtime.aborted', 'The comparison was cancelled.', 'Start it again when you want the result.')
    const budget = Math.min(mostTokens, ...distinct.map(({ core }) => core.stepTokens()))
    const first = Math.max(start, from - 1)
    const end = Math.min(target, start + budget, first + mostRows)
    const rows = Math.max(0, end - first)
    const drift = await exclusively(distinct, async () => {
      for (const sequence of sequences.values()) await sequence.step(start, end - start, rows)
      if (rows === 0) return null
      const [left, right] = pair.map(({ core }) => core.executable) as [Executable, Executable]
      return pair[0].backend.drift(left, right, rows, tokens.subarray(first + 1, end + 1))
    })
    if (drift !== null) append(result, drift, first - (from - 1))
    start = end
    if (rows > 0) onProgress?.(start - (from - 1), tokens.length - from)
  }
  return result
}

/** One side's copy of the sequence, on its reserved blocks. */
class SteppedSequence {
  readonly #runtime: LocalRuntime
  readonly #request: Request
  readonly #builder: StepBuilder

  constructor(runtime: LocalRuntime, { tokens, from }: ScoreRequest, table: readonly number[]) {
    const { executable, pool } = runtime.core
    this.#runtime = runtime
    this.#builder = new StepBuilder(executable.capacity, pool.blockSize)
    this.#request = new Request('pair', tokens, { kind: 'score', from, topCount: 0 }, 0)
    this.#request.table = [...table]
  }

  /** Leaves the logits of the last `rows` tokens in the executable. Throws `runtime.non-finite`. */
  async step(start: number, count: number, rows: number): Promise<void> {
    const { core, info } = this.#runtime
    const input: StepInput = this.#builder.build({ entries: [{ request: this.#request, start, count, rows }], tokens: count, rows })
    const began = performance.now()
    const output = await core.executable.step(input)
    core.observeStep(count, performance.now() - began)
    if (!output.nonFinite) return
    throw new LatheError(
      'runtime.non-finite',
      `The output of ${info.modelId} is not a number (NaN or infinity) within tokens ${start}…${start + count} of the text.`,
      `The weights of ${info.modelId} are damaged or overflow in this scheme. Compress again with a finer scheme.`,
      { data: { modelId: info.modelId, position: start + count } },
    )
  }
}

function exclusively<T>(runtimes: readonly LocalRuntime[], section: () => Promise<T>): Promise<T> {
  const [first, ...rest] = runtimes
  return first === undefined ? section() : first.core.exclusive(() => exclusively(rest, section))
}

function localOf(runtime: Runtime): LocalRuntime {
  if (runtime instanceof LocalRuntime) return runtime
  if (runtime instanceof DisaggregatedRuntime) return runtime.decode
  throw new LatheError(
    'evaluate.incomparable',
    `${runtime.info.modelId} does not run in this process.`,
    'Load both models here to compare them.',
  )
}

function checkComparable(baseline: LocalRuntime, candidate: LocalRuntime): void {
  const [a, b] = [baseline.info, candidate.info]
  if (baseline.backend !== candidate.backend) {
    throw new LatheError(
      'evaluate.incomparable',
      `${a.modelId} runs on ${a.adapterId}, ${b.modelId} on ${b.adapterId}.`,
      'Load both models on one adapter to compare them.',
    )
  }
  if (a.vocabulary === b.vocabulary) return
  throw new LatheError(
    'evaluate.incomparable',
    `The vocabularies differ: ${a.modelId} has ${a.vocabulary} tokens, ${b.modelId} ${b.vocabulary}.`,
    'Drift is measured against the model that a variant was made from. Choose that one as the baseline.',
  )
}

function emptyDrift(count: number): DriftRows {
  return {
    kld: new Float32Array(count),
    baselineArgmax: new Uint32Array(count),
    candidateArgmax: new Uint32Array(count),
    baselineTargetLogprob: new Float32Array(count),
    candidateTargetLogprob: new Float32Array(count),
  }
}

function append(result: DriftRows, slice: DriftRows, offset: number): void {
  result.kld.set(slice.kld, offset)
  result.baselineArgmax.set(slice.baselineArgmax, offset)
  result.candidateArgmax.set(slice.candidateArgmax, offset)
  result.baselineTargetLogprob.set(slice.baselineTargetLogprob, offset)
  result.candidateTargetLogprob.set(slice.candidateTargetLogprob, offset)
}
