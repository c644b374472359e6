/**
 * Whole texts on a server: perplexity, and drift from a baseline that is a server or a model here. Two engines don't share a step, so the divergence is
 * made from what both tell: the probabilities of their most probable tokens and of the token that stands in the text, the rest as one. That is a lower
 * bound of the divergence (specs/evaluation.md §6.1), and the result says so. Perplexities, Δp and agreement are exact.
 */
import { LatheError } from '../../contract/errors.ts'
import type { DriftResult, PerplexityResult } from '../../contract/result.ts'
import type { Runtime } from '../../runtime/types.ts'
import { datasetKey, driftOf, perplexityOf, prepareTokens } from '../perplexity.ts'
import type { DriftTokens, PerplexityOptions, TextSample } from '../perplexity.ts'
import type { TextCodec } from '../text-codec.ts'
import { invalidResponse, isObject } from './openai-client.ts'
import type { OpenAiClient, RemoteModel } from './openai-client.ts'

/** As many as vLLM and our own server give without being told to give more. */
const TOP_TOKENS = 20

/** What a model says of one position. */
interface PositionRow {
  readonly targetLogprob: number
  readonly topId: number
  /** log p by token id: the most probable ones, and the text's own. */
  readonly logprobs: ReadonlyMap<number, number>
}

export interface TextSource {
  readonly name: string
  /** null = not known. */
  readonly bosToken: number | null
  readonly eosToken: number | null
  encode(text: string, signal: AbortSignal | undefined): Promise<Uint32Array>
  tokenBytes?(id: number): Uint8Array
  /** Rows of tokens[from …]. */
  score(tokens: Uint32Array, from: number, signal: AbortSignal | undefined): Promise<readonly PositionRow[]>
}

export function localTextSource(name: string, runtime: Runtime, codec: TextCodec): TextSource {
  return {
    name,
    bosToken: codec.bosTokenId,
    eosToken: codec.eosTokenId,
    encode: async (text) => codec.encode(text, { addSpecialTokens: false }),
    ...(codec.tokenBytes === undefined ? {} : { tokenBytes: (id: number) => codec.tokenBytes?.(id) ?? new Uint8Array() }),
    async score(tokens, from, signal) {
      const scored = await runtime.score({ tokens, from, topCount: TOP_TOKENS, signal })
      return Array.from(scored.logprobs, (targetLogprob, i): PositionRow => {
        const logprobs = new Map<number, number>()
        for (let j = i * TOP_TOKENS; j < (i + 1) * TOP_TOKENS; j++) logprobs.set(scored.topIds[j] ?? 0, scored.topLogprobs[j] ?? -Infinity)
        logprobs.set(tokens[from + i] ?? 0, targetLogprob)
        return { targetLogprob, topId: scored.argmax[i] ?? 0, logprobs }
      })
    },
  }
}

/** Throws `remote.unsupported` for a server without /tokenize; one without `prompt_logprobs` is found out by the first window. */
export async function remoteTextSource(client: OpenAiClient, model: RemoteModel, signal?: AbortSignal): Promise<TextSource> {
  if (!(await client.canTokenize(model.id, signal))) {
    throw new LatheError(
      'remote.unsupported',
      `${model.id} has no /tokenize, which windows of a text are cut with.`,
      'Measure tasks on it, or use a server with /tokenize (vLLM, Lathe).',
    )
  }
  const [bosToken = null] = await client.tokenize(model.id, '', { addSpecialTokens: true, signal }).catch(() => [])
  return {
    name: model.id,
    bosToken,
    eosToken: null,
    encode: async (text, stop) => Uint32Array.from(await client.tokenize(model.id, text, { signal: stop })),
    async score(tokens, from, stop) {
      const url = `${client.baseUrl}/completions`
      const body = await client.request(
        'POST',
        url,
        { model: model.id, prompt: [...tokens], max_tokens: 1, temperature: 0, prompt_logprobs: TOP_TOKENS },
        stop,
      )
      const choice: unknown = isObject(body) && Array.isArray(body['choices']) ? body['choices'][0] : null
      const list: unknown = isObject(choice) ? choice['prompt_logprobs'] : null
      if (!Array.isArray(list) || list.length !== tokens.length)
        throw invalidResponse(url, `has no prompt_logprobs of ${tokens.length} tokens`)
      return list.slice(from).map((entry, i) => rowOf(url, entry, tokens[from + i] ?? 0))
    },
  }
}

/** vLLM's form: {token id: {logprob, rank}}. */
function rowOf(url: string, entry: unknown, target: number): PositionRow {
  const logprobs = new Map<number, number>()
  for (const [id, given] of isObject(entry) ? Object.entries(entry) : []) {
    const logprob = isObject(given) ? given['logprob'] : null
    if (typeof logprob === 'number') logprobs.set(Number(id), logprob)
  }
  const targetLogprob = logprobs.get(target)
  if (targetLogprob === undefined) throw invalidResponse(url, `has no log-probability of token ${target}`)
  let topId = target
  for (const [id, logprob] of logprobs) {
    const best = logprobs.get(topId) ?? -Infinity
    if (logprob > best || (logprob === best && id < topId)) topId = id
  }
  return { targetLogprob, topId, logprobs }
}

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
  // What is left by rounding of float32 is nothing.
  if (restP > LEAST_REST) sum += restP * Math.log(restP / Math.max(restQ, LEAST_REST))
  return Math.max(0, sum)
}

const LEAST_REST = 1e-6

export interface TextMeasurement {
  readonly perplexity: PerplexityResult
  readonly baseline: PerplexityResult | null
  readonly drift: DriftResult | null
  readonly tokens: DriftTokens | null
}

/** Throws `evaluate.incomparable` when the two split the text into other tokens. */
export async function measureTextOn(
  source: TextSource,
  baseline: { readonly id: string; readonly source: TextSource } | null,
  sample: TextSample,
  options: PerplexityOptions,
): Promise<TextMeasurement> {
  const { signal } = options
  const tokens = await source.encode(sample.text, signal)
  const theirs = baseline === null ? tokens : await baseline.source.encode(sample.text, signal)
  if (theirs.length !== tokens.length || tokens.some((id, i) => id !== theirs[i])) {
    throw new LatheError(
      'evaluate.incomparable',
      `${source.name} splits the text into ${tokens.length} tokens, ${baseline?.source.name} into ${theirs.length} others.`,
      'Compare models of one tokenizer, or measure each by itself: bits per byte can be compared.',
    )
  }
  const telling = source.tokenBytes === undefined ? baseline?.source : source
  const prepared = prepareTokens(tokens, sample, options, {
    bosTokenId: source.bosToken ?? baseline?.source.bosToken ?? null,
    eosTokenId: source.eosToken ?? baseline?.source.eosToken ?? null,
    ...(telling?.tokenBytes === undefined ? {} : { tokenBytes: (id: number) => telling.tokenBytes?.(id) ?? new Uint8Array() }),
  })
  const own: (readonly PositionRow[])[] = []
  const before: (readonly PositionRow[])[] = []
  let done = 0
  for (const { input, from } of prepared.windows) {
    signal?.throwIfAborted()
    const [mine, other] = await Promise.all([source.score(input, from, signal), baseline?.source.score(input, from, signal)])
    own.push(mine)
    if (other !== undefined) before.push(other)
    done += input.length - from
    options.onProgress?.(done, prepared.tokens)
  }
  const nll = (windows: readonly (readonly PositionRow[])[]): number[] =>
    windows.map((rows) => rows.reduce((sum, { targetLogprob }) => sum - targetLogprob, 0))
  const perplexity = perplexityOf(nll(own), prepared, sample, options)
  if (baseline === null) return { perplexity, baseline: null, drift: null, tokens: null }
  const column = <T>(windows: readonly (readonly PositionRow[])[], of: (row: PositionRow) => T): T[] =>
    windows.flatMap((rows) => rows.map(of))
  const divergences = before.map((rows, w) => rows.map((row, i) => boundedDivergence(row.logprobs, own[w]?.[i]?.logprobs ?? new Map())))
  const positions: DriftTokens = {
    ids: Uint32Array.from(prepared.windows.flatMap(({ input, from }) => [...input.subarray(from)])),
    kld: Float32Array.from(divergences.flat()),
    baselineLogprobs: Float32Array.from(column(before, ({ targetLogprob }) => targetLogprob)),
    candidateLogprobs: Float32Array.from(column(own, ({ targetLogprob }) => targetLogprob)),
    baselineTop: Uint32Array.from(column(before, ({ topId }) => topId)),
    candidateTop: Uint32Array.from(column(own, ({ topId }) => topId)),
  }
  const byWindow = {
    kld: divergences.map((values) => values.reduce((sum, value) => sum + value, 0)),
    tokens: divergences.map((values) => values.length),
    baselineNll: nll(before),
    candidateNll: nll(own),
  }
  return {
    perplexity,
    baseline: perplexityOf(nll(before), prepared, sample, options),
    drift: {
      baselineId: baseline.id,
      ...driftOf(positions, byWindow),
      dataset: datasetKey(sample),
      hasTokens: true,
      boundedByTop: TOP_TOKENS,
    },
    tokens: positions,
  }
}
