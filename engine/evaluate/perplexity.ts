/**
 * Perplexity of a text, and drift from a baseline over the same tokens (specs/evaluation.md §1, §6.1). Both come from the same windows, so
 * one lock-step pass yields both models' perplexity and the KL divergence. Per-token values are kept so that every figure, and paired
 * bootstraps over them, can be recomputed.
 */
import { createHash } from 'node:crypto'
import type { DriftResult, PerplexityResult } from '../contract/result.ts'
import type { Runtime, ScorePair } from '../runtime/types.ts'
import { bootstrapRatioError, meanWithError, quantileOfSorted } from './statistics.ts'
import type { TextCodec } from './text-codec.ts'
import { bytesByToken } from './token-bytes.ts'
import { windowsOf, type PerplexityProtocol, type ScoredWindow } from './windows.ts'

/** Seed of the bootstrap over windows; fixed so that a repeated evaluation prints the same error. */
const BOOTSTRAP_SEED = 20261123
/** Plenty for a displayed standard error (specs/evaluation.md §3). Windows are resampled, not tokens: tokens in a window are correlated. */
const BOOTSTRAP_RESAMPLES = 2000

export interface TextSample {
  readonly name: string
  readonly text: string
}

export interface PerplexityOptions {
  readonly protocol: PerplexityProtocol
  readonly window: number
  /** Score only the first so many windows; null = all. The result's token count says what was scored. */
  readonly maxWindows: number | null
  readonly signal?: AbortSignal
  readonly onProgress?: (doneTokens: number, totalTokens: number) => void
}

/** Identifies the text and everything that decides which tokens are scored; equal keys may share an axis. */
export function datasetKey(sample: TextSample): string {
  return `${sample.name}@${createHash('sha256').update(sample.text).digest('hex').slice(0, 12)}`
}

export function perplexityProtocolKey(sample: TextSample, options: Pick<PerplexityOptions, 'protocol' | 'window' | 'maxWindows'>): string {
  return `perplexity:${options.protocol}:${options.window}:${options.maxWindows ?? 'all'}:${datasetKey(sample)}`
}

export interface PreparedText {
  readonly windows: readonly ScoredWindow[]
  readonly tokens: number
  /** UTF-8 bytes of the scored part of the text. */
  readonly bytes: number
}

function prepare(codec: TextCodec, sample: TextSample, options: PerplexityOptions): PreparedText {
  return prepareTokens(codec.encode(sample.text, { addSpecialTokens: false }), sample, options, codec)
}

/** The windows of a text that is tokens already. */
export function prepareTokens(
  tokens: Uint32Array,
  sample: TextSample,
  options: PerplexityOptions,
  codec: Omit<TextCodec, 'encode'>,
): PreparedText {
  const all = windowsOf(tokens, {
    protocol: options.protocol,
    window: options.window,
    bosToken: codec.bosTokenId,
    eosToken: codec.eosTokenId,
  })
  const windows = options.maxWindows === null ? all : all.slice(0, options.maxWindows)
  const scored = windows.reduce((sum, window) => sum + window.input.length - window.from, 0)
  const bytes = scored === tokens.length ? Buffer.byteLength(sample.text) : scoredBytes(codec, tokens, windows, sample)
  return { windows, tokens: scored, bytes }
}

/** Of a cut text: the bytes of its scored tokens, or their share of the text's where a tokenizer does not tell. */
function scoredBytes(codec: Omit<TextCodec, 'encode'>, tokens: Uint32Array, windows: readonly ScoredWindow[], sample: TextSample): number {
  const known = bytesByToken(codec, sample.text, tokens)
  const spans = windows.map(({ input, from, firstPosition }) => [firstPosition, firstPosition + input.length - from] as const)
  if (known !== null) return spans.reduce((sum, [from, to]) => known.subarray(from, to).reduce((all, bytes) => all + bytes, sum), 0)
  const scored = spans.reduce((sum, [from, to]) => sum + to - from, 0)
  return Math.round((Buffer.byteLength(sample.text) * scored) / tokens.length)
}

export function perplexityOf(
  nllByWindow: readonly number[],
  prepared: PreparedText,
  sample: TextSample,
  options: PerplexityOptions,
): PerplexityResult {
  const nllSum = nllByWindow.reduce((sum, value) => sum + value, 0)
  const nll = nllSum / prepared.tokens
  const value = Math.exp(nll)
  const counts = prepared.windows.slice(0, nllByWindow.length).map((window) => window.input.length - window.from)
  const finite = Number.isFinite(value)
  return {
    value: finite ? value : null,
    nll: Number.isFinite(nll) ? nll : null,
    bitsPerByte: Number.isFinite(nllSum) ? nllSum / (prepared.bytes * Math.LN2) : null,
    tokens: prepared.tokens,
    bytes: prepared.bytes,
    window: options.window,
    protocol: options.protocol,
    standardError: finite ? bootstrapRatioError(nllByWindow, counts, { resamples: BOOTSTRAP_RESAMPLES, seed: BOOTSTRAP_SEED }) : null,
    dataset: datasetKey(sample),
    tokenization: tokenizationOf(prepared),
    note: finite ? null : 'A scored token had probability 0, or the model produced values that are not numbers.',
  }
}

/** Of everything that the model was given to read: other tokens, another prefix and other windows make another digest. */
function tokenizationOf({ windows }: PreparedText): string {
  const hash = createHash('sha256')
  for (const { input, from } of windows) hash.update(`${input.length} ${from}\n`).update(input)
  return hash.digest('hex').slice(0, 12)
}

function negatedSum(logprobs: Float32Array): number {
  let sum = 0
  for (const value of logprobs) sum -= value
  return sum
}

/** Perplexity of one model. Cancel with the signal; the rejection is the runtime's `runtime.aborted`. */
export async function measurePerplexity(
  runtime: Runtime,
  codec: TextCodec,
  sample: TextSample,
  options: PerplexityOptions,
): Promise<PerplexityResult> {
  const prepared = prepare(codec, sample, options)
  const nllByWindow: number[] = []
  let done = 0
  for (const window of prepared.windows) {
    const before = done
    const scored = await runtime.score({
      tokens: window.input,
      from: window.from,
      signal: options.signal,
      onProgress: (scoredSoFar) => options.onProgress?.(before + scoredSoFar, prepared.tokens),
    })
    nllByWindow.push(negatedSum(scored.logprobs))
    done += window.input.length - window.from
    options.onProgress?.(done, prepared.tokens)
  }
  return perplexityOf(nllByWindow, prepared, sample, options)
}

export interface PairedTextResult {
  readonly baseline: PerplexityResult
  readonly candidate: PerplexityResult
  readonly drift: DriftResult
  readonly tokens: DriftTokens
}

/** What was read at every scored position, in the order of the text: the token view is made from it. All arrays are of one length. */
export interface DriftTokens {
  readonly ids: Uint32Array
  readonly kld: Float32Array
  readonly baselineLogprobs: Float32Array
  readonly candidateLogprobs: Float32Array
  readonly baselineTop: Uint32Array
  readonly candidateTop: Uint32Array
}

/** JSON has no infinity and no NaN; an unmeasurable figure is null. */
function orNull(value: number): number | null {
  return Number.isFinite(value) ? value : null
}

/** Both perplexities and the drift, in lock-step. `baselineId` names the baseline in the result. */
export async function measureDrift(
  pair: { readonly baseline: Runtime; readonly candidate: Runtime; readonly scorePair: ScorePair; readonly baselineId: string },
  codec: TextCodec,
  sample: TextSample,
  options: PerplexityOptions,
): Promise<PairedTextResult> {
  const prepared = prepare(codec, sample, options)
  const tokens: DriftTokens = {
    ids: new Uint32Array(prepared.tokens),
    kld: new Float32Array(prepared.tokens),
    baselineLogprobs: new Float32Array(prepared.tokens),
    candidateLogprobs: new Float32Array(prepared.tokens),
    baselineTop: new Uint32Array(prepared.tokens),
    candidateTop: new Uint32Array(prepared.tokens),
  }
  const kldByWindow: number[] = []
  const tokensByWindow: number[] = []
  const baselineNll: number[] = []
  const candidateNll: number[] = []
  let done = 0
  for (const window of prepared.windows) {
    const before = done
    const rows = await pair.scorePair(pair.baseline, pair.candidate, {
      tokens: window.input,
      from: window.from,
      signal: options.signal,
      onProgress: (scoredSoFar) => options.onProgress?.(before + scoredSoFar, prepared.tokens),
    })
    let windowKld = 0
    for (let i = 0; i < rows.kld.length; i++) {
      // Rounding can leave a tiny negative value where the distributions are equal; a divergence is never negative.
      const divergence = Math.max(0, rows.kld[i] ?? 0)
      tokens.kld[before + i] = divergence
      windowKld += divergence
    }
    tokens.ids.set(window.input.subarray(window.from), before)
    tokens.baselineLogprobs.set(rows.baselineTargetLogprob, before)
    tokens.candidateLogprobs.set(rows.candidateTargetLogprob, before)
    tokens.baselineTop.set(rows.baselineArgmax, before)
    tokens.candidateTop.set(rows.candidateArgmax, before)
    done += rows.kld.length
    kldByWindow.push(windowKld)
    tokensByWindow.push(rows.kld.length)
    baselineNll.push(negatedSum(rows.baselineTargetLogprob))
    candidateNll.push(negatedSum(rows.candidateTargetLogprob))
    options.onProgress?.(done, prepared.tokens)
  }
  const byWindow = { kld: kldByWindow, tokens: tokensByWindow, baselineNll, candidateNll }
  return {
    baseline: perplexityOf(baselineNll, prepared, sample, options),
    candidate: perplexityOf(candidateNll, prepared, sample, options),
    drift: { baselineId: pair.baselineId, ...driftOf(tokens, byWindow), dataset: datasetKey(sample), hasTokens: true, boundedByTop: null },
    tokens,
  }
}

/** Sums of each window: tokens within one are correlated, so windows are what is resampled. */
export interface DriftWindows {
  readonly kld: readonly number[]
  readonly tokens: readonly number[]
  readonly baselineNll: readonly number[]
  readonly candidateNll: readonly number[]
}

export function driftOf(
  tokens: DriftTokens,
  windows: DriftWindows,
): Omit<DriftResult, 'baselineId' | 'dataset' | 'hasTokens' | 'boundedByTop'> {
  const n = tokens.kld.length
  const deltaP = new Float64Array(n)
  let agreed = 0
  let deltaSquares = 0
  for (let i = 0; i < n; i++) {
    if (tokens.baselineTop[i] === tokens.candidateTop[i]) agreed++
    const delta = Math.exp(tokens.candidateLogprobs[i] ?? 0) - Math.exp(tokens.baselineLogprobs[i] ?? 0)
    deltaP[i] = delta
    deltaSquares += delta * delta
  }
  const kld = Float64Array.from(tokens.kld).toSorted()
  const deltas = deltaP.toSorted()
  const agreement = agreed / n
  const nllDifference = windows.candidateNll.map((value, i) => value - (windows.baselineNll[i] ?? 0))
  const bootstrap = { resamples: BOOTSTRAP_RESAMPLES, seed: BOOTSTRAP_SEED }
  const ratioError = bootstrapRatioError(nllDifference, windows.tokens, bootstrap)
  return {
    kldMean: orNull(meanWithError(tokens.kld).mean),
    kldMeanStandardError: bootstrapRatioError(windows.kld, windows.tokens, bootstrap),
    kldMedian: orNull(quantileOfSorted(kld, 0.5)),
    kldP90: orNull(quantileOfSorted(kld, 0.9)),
    kldP95: orNull(quantileOfSorted(kld, 0.95)),
    kldP99: orNull(quantileOfSorted(kld, 0.99)),
    kldP999: orNull(quantileOfSorted(kld, 0.999)),
    kldMax: orNull(quantileOfSorted(kld, 1)),
    top1Agreement: orNull(agreement),
    top1AgreementStandardError: n > 1 ? Math.sqrt((agreement * (1 - agreement)) / (n - 1)) : null,
    deltaPRms: orNull(Math.sqrt(deltaSquares / n)),
    deltaPMean: orNull(meanWithError(deltaP).mean),
    deltaPP1: orNull(quantileOfSorted(deltas, 0.01)),
    deltaPP99: orNull(quantileOfSorted(deltas, 0.99)),
    logPerplexityRatio: orNull(nllDifference.reduce((sum, value) => sum + value, 0) / n),
    logPerplexityRatioStandardError: ratioError === null ? null : orNull(ratioError),
    flips: n - agreed,
    tokens: n,
  }
}
