/**
 * Whole texts where a side is a server: perplexity, and drift from a baseline that is a server or a model here. Two engines don't share a step, so the
 * divergence is made from what both tell: the probabilities of their most probable tokens and of the token that stands in the text, the rest as one.
 * That is a lower bound of the divergence (specs/evaluation.md §6.1), and the result says so. Perplexities, Δp and agreement are exact.
 */
import { LatheError } from '../../contract/errors.ts'
import type { DriftResult, PerplexityResult } from '../../contract/result.ts'
import { datasetKey, driftOf, perplexityOf, prepareTokens } from '../perplexity.ts'
import type { DriftTokens, PerplexityOptions, PreparedText, TextSample } from '../perplexity.ts'
import { sameTokens } from './text-source.ts'
import type { PositionRow, ScoredRows, TextSource } from './text-source.ts'

/** KL(p ‖ q) of what both lists have one by one, everything else as one: never more than the whole divergence. */
export function boundedDivergence(p: ReadonlyMap<number, number>, q: ReadonlyMap<number, number>): number {
  let sum = 0
  let restP = 1
  let restQ = 1
  for (const [id, logP] of p) {
    const logQ = q.get(id)
    if (logQ === undefined) continue
    sum += Math.exp(logP) * (logP - logQ)
    restP -= Math.exp(logP)
    restQ -= Math.exp(logQ)
  }
  // A rest of q larger than it is makes the sum smaller, and a bound it stays.
  if (restP > 0) sum += restP * Math.log(restP / Math.max(restQ, LEAST_REST))
  return Math.max(0, sum)
}

/** What rounding of float32 probabilities leaves of nothing. */
const LEAST_REST = 1e-6

export interface TextMeasurement {
  readonly perplexity: PerplexityResult
  readonly baseline: PerplexityResult | null
  readonly drift: DriftResult | null
  readonly tokens: DriftTokens | null
}

/** Throws `evaluate.incomparable` when the two split the text into other tokens. A side that lists no most probable tokens leaves no drift, and says so. */
export async function measureTextOn(
  source: TextSource,
  baseline: { readonly id: string; readonly source: TextSource } | null,
  sample: TextSample,
  options: PerplexityOptions,
): Promise<TextMeasurement> {
  const { signal } = options
  const tokens = await source.encode(sample.text, signal)
  const theirs = baseline === null ? tokens : await baseline.source.encode(sample.text, signal)
  if (!sameTokens(tokens, theirs)) {
    throw new LatheError(
      'evaluate.incomparable',
      `${source.name} splits the text into ${tokens.length} tokens, ${baseline?.source.name} into ${theirs.length} others.`,
      'Compare models of one tokenizer, or measure each by itself: bits per byte can be compared.',
    )
  }
  const sources = baseline === null ? [source] : [source, baseline.source]
  const { prepared, bytesNote } = await prepareFor(sources, tokens, sample, options)
  const own: ScoredRows[] = []
  const before: ScoredRows[] = []
  let done = 0
  for (const { input, from } of prepared.windows) {
    signal?.throwIfAborted()
    const [mine, other] = await Promise.all([source.score(input, from, signal), baseline?.source.score(input, from, signal)])
    own.push(mine)
    if (other !== undefined) before.push(other)
    done += input.length - from
    options.onProgress?.(done, prepared.tokens)
  }
  const result = (scored: readonly ScoredRows[]): PerplexityResult => {
    const measured = perplexityOf(nllOf(scored), prepared, sample, options)
    return { ...measured, note: measured.note ?? bytesNote }
  }
  const perplexity = result(own)
  if (baseline === null) return { perplexity, baseline: null, drift: null, tokens: null }
  const listed = Math.min(...[...own, ...before].map((scored) => scored.listed))
  if (listed === 0) {
    const silent = own.some((scored) => scored.listed === 0) ? source.name : baseline.source.name
    const withoutDrift = `${silent} tells the probabilities of the text’s own tokens (echo), not the most probable ones: drift needs prompt_logprobs on /v1/completions (vLLM: --max-logprobs ≥ 1).`
    return { perplexity: { ...perplexity, withoutDrift }, baseline: result(before), drift: null, tokens: null }
  }
  const { positions, byWindow } = pairedRows(prepared, before, own)
  return {
    perplexity,
    baseline: result(before),
    drift: {
      baselineId: baseline.id,
      ...driftOf(positions, byWindow),
      dataset: datasetKey(sample),
      hasTokens: true,
      boundedByTop: listed,
    },
    tokens: positions,
  }
}

/** Windows, with the bytes of a cut text as exactly as anyone can tell; `bytesNote` where that is not exactly. */
async function prepareFor(
  sources: readonly TextSource[],
  tokens: Uint32Array,
  sample: TextSample,
  options: PerplexityOptions,
): Promise<{ readonly prepared: PreparedText; readonly bytesNote: string | null }> {
  const known = <T>(of: (source: TextSource) => T | null): T | null =>
    sources.reduce<T | null>((found, source) => found ?? of(source), null)
  const telling = sources.find((source) => source.tokenBytes !== undefined)
  const prepared = prepareTokens(tokens, sample, options, {
    bosTokenId: known((source) => source.bosToken),
    eosTokenId: known((source) => source.eosToken),
    ...(telling === undefined ? {} : { tokenBytes: (id: number) => telling.tokenBytes?.(id) ?? new Uint8Array() }),
  })
  if (telling !== undefined || prepared.tokens === tokens.length) return { prepared, bytesNote: null }
  // Of rolling windows the scored part is the beginning of the text.
  const read = options.protocol === 'rolling' ? await sources[0]?.textOf?.(tokens.subarray(0, prepared.tokens), options.signal) : null
  const beginning = [read, read?.trimStart()].find((text) => typeof text === 'string' && text !== '' && sample.text.startsWith(text))
  if (typeof beginning === 'string') return { prepared: { ...prepared, bytes: Buffer.byteLength(beginning) }, bytesNote: null }
  return { prepared, bytesNote: 'Bits per byte are an estimate: nobody tells how many bytes the scored tokens stand for.' }
}

function nllOf(windows: readonly ScoredRows[]): number[] {
  return windows.map(({ rows }) => rows.reduce((sum, { targetLogprob }) => sum - targetLogprob, 0))
}

function columnOf(windows: readonly ScoredRows[], of: (row: PositionRow) => number): number[] {
  return windows.flatMap(({ rows }) => rows.map(of))
}

function pairedRows(prepared: PreparedText, before: readonly ScoredRows[], own: readonly ScoredRows[]) {
  const divergences = before.map(({ rows }, w) =>
    rows.map((row, i) => boundedDivergence(row.logprobs, own[w]?.rows[i]?.logprobs ?? new Map())),
  )
  const positions: DriftTokens = {
    ids: Uint32Array.from(prepared.windows.flatMap(({ input, from }) => [...input.subarray(from)])),
    kld: Float32Array.from(divergences.flat()),
    baselineLogprobs: Float32Array.from(columnOf(before, ({ targetLogprob }) => targetLogprob)),
    candidateLogprobs: Float32Array.from(columnOf(own, ({ targetLogprob }) => targetLogprob)),
    baselineTop: Uint32Array.from(columnOf(before, ({ topId }) => topId ?? 0)),
    candidateTop: Uint32Array.from(columnOf(own, ({ topId }) => topId ?? 0)),
  }
  const byWindow = {
    kld: divergences.map((values) => values.reduce((sum, value) => sum + value, 0)),
    tokens: divergences.map((values) => values.length),
    baselineNll: nllOf(before),
    candidateNll: nllOf(own),
  }
  return { positions, byWindow }
}
