/**
 * Who can be asked for the log-probabilities of a text's own tokens and of the most probable ones beside them: a model here, or one on a server. A
 * server is asked in the ways that it may have, the most telling first, and stays with the one that works; what none of them gives is refused by the
 * option that the server lacks. Knows nothing of perplexity.
 */
import { LatheError } from '../../contract/errors.ts'
import type { Runtime } from '../../runtime/types.ts'
import type { TextCodec } from '../text-codec.ts'
import { invalidResponse, isObject } from './openai-client.ts'
import type { OpenAiClient, RemoteModel } from './openai-client.ts'
import { firstChoice, readEcho } from './prompt-scores.ts'

/** As many as vLLM and our own server give without being told to give more. */
export const TOP_TOKENS = 20
/** What a vLLM started with a smaller --max-logprobs may still give: any of them makes a bound. */
const FEWER = [5, 1] as const

/** What a model says of one position. */
export interface PositionRow {
  readonly targetLogprob: number
  /** Most probable token; null where the server does not tell. */
  readonly topId: number | null
  /** log p by token id: the most probable ones, and the text's own. */
  readonly logprobs: ReadonlyMap<number, number>
}

export interface ScoredRows {
  readonly rows: readonly PositionRow[]
  /** Most probable tokens told of each position; 0 = only the text's own. */
  readonly listed: number
}

export interface TextSource {
  readonly name: string
  /** null = not known. */
  readonly bosToken: number | null
  readonly eosToken: number | null
  encode(text: string, signal: AbortSignal | undefined): Promise<Uint32Array>
  tokenBytes?(id: number): Uint8Array
  /** The text of tokens; null where nobody can tell. */
  textOf?(tokens: Uint32Array, signal: AbortSignal | undefined): Promise<string | null>
  /** Rows of tokens[from …]. */
  score(tokens: Uint32Array, from: number, signal: AbortSignal | undefined): Promise<ScoredRows>
}

/** What a folder's tokenizer knows of its tokens. */
function tokenFacts(codec: TextCodec): Pick<TextSource, 'bosToken' | 'eosToken' | 'tokenBytes'> {
  return {
    bosToken: codec.bosTokenId,
    eosToken: codec.eosTokenId,
    ...(codec.tokenBytes === undefined ? {} : { tokenBytes: (id: number) => codec.tokenBytes?.(id) ?? new Uint8Array() }),
  }
}

export function localTextSource(name: string, runtime: Runtime, codec: TextCodec): TextSource {
  return {
    name,
    ...tokenFacts(codec),
    encode: async (text) => codec.encode(text, { addSpecialTokens: false }),
    async score(tokens, from, signal) {
      const listed = Math.min(TOP_TOKENS, runtime.info.vocabulary)
      const scored = await runtime.score({ tokens, from, topCount: listed, signal })
      const rows = Array.from(scored.logprobs, (targetLogprob, i): PositionRow => {
        const logprobs = new Map<number, number>()
        for (let j = i * listed; j < (i + 1) * listed; j++) logprobs.set(scored.topIds[j] ?? 0, scored.topLogprobs[j] ?? -Infinity)
        logprobs.set(tokens[from + i] ?? 0, targetLogprob)
        return { targetLogprob, topId: scored.argmax[i] ?? 0, logprobs }
      })
      return { rows, listed }
    },
  }
}

/** Throws `remote.unsupported` for a server without /tokenize; one without log-probabilities of prompts is found out by the first window. */
export async function remoteTextSource(client: OpenAiClient, model: RemoteModel, signal?: AbortSignal): Promise<TextSource> {
  if (!(await client.canTokenize(model.id, signal))) {
    throw new LatheError(
      'remote.unsupported',
      `${model.id} has no /tokenize, which windows of a text are cut with.`,
      'Measure tasks on it, or use a server with /tokenize (vLLM, Lathe).',
    )
  }
  // Some servers refuse an empty text; then there is no telling.
  const [bosToken = null] = await client.tokenize(model.id, '', { addSpecialTokens: true, signal }).catch(() => [])
  const scores = new RemoteScores(client, model)
  return {
    name: model.id,
    bosToken,
    eosToken: bosToken === null ? await endToken(client, model, signal) : null,
    encode: async (text, stop) => Uint32Array.from(await client.tokenize(model.id, text, { signal: stop })),
    async textOf(tokens, stop) {
      return client.detokenize(model.id, [...tokens], stop).catch((error: unknown) => {
        if (error instanceof LatheError && (error.code === 'remote.unsupported' || error.code === 'remote.invalid-response')) return null
        throw error
      })
    },
    score: (tokens, from, stop) => scores.of(tokens, from, stop),
  }
}

/** How tokenizers write the token that ends a text. No server says which is its own, but one that is a single token to it is a special one. */
const END_TEXTS = ['<|endoftext|>', '</s>', '<|end_of_text|>', '<eos>', '<|im_end|>'] as const

/** For tokenizers that put nothing before a text (Qwen's): what stands there is then the end of another. null where none of the names is known. */
async function endToken(client: OpenAiClient, model: RemoteModel, signal: AbortSignal | undefined): Promise<number | null> {
  for (const text of END_TEXTS) {
    const [id, ...more] = await client.tokenize(model.id, text, { signal })
    if (id !== undefined && more.length === 0) return id
  }
  return null
}

/** The same source, with the prefix token and the bytes of a folder's tokenizer where that makes the very same tokens of this text. */
export async function withFolderTokenizer(
  source: TextSource,
  codec: TextCodec,
  text: string,
  signal?: AbortSignal,
): Promise<{ readonly source: TextSource; readonly isSame: boolean }> {
  const tokens = await source.encode(text, signal)
  const encode: TextSource['encode'] = async (asked, stop) => (asked === text ? tokens : source.encode(asked, stop))
  const isSame = sameTokens(tokens, codec.encode(text, { addSpecialTokens: false }))
  if (!isSame) return { source: { ...source, encode }, isSame }
  return { isSame, source: { ...source, encode, ...tokenFacts(codec) } }
}

export function sameTokens(one: Uint32Array, other: Uint32Array): boolean {
  return one.length === other.length && one.every((id, i) => id === other[i])
}

/** A way of asking: vLLM's own field with so many alternatives, or an echoed prompt, of which the text's own tokens are told. */
type Way = { readonly kind: 'prompt-logprobs'; readonly count: number } | { readonly kind: 'echo'; readonly generated: 0 | 1 }

const WAYS: readonly Way[] = [
  ...[TOP_TOKENS, ...FEWER].map((count): Way => ({ kind: 'prompt-logprobs', count })),
  { kind: 'echo', generated: 0 },
  { kind: 'echo', generated: 1 },
]

class RemoteScores {
  readonly #client: OpenAiClient
  readonly #model: RemoteModel
  #way: Way | null = null

  constructor(client: OpenAiClient, model: RemoteModel) {
    this.#client = client
    this.#model = model
  }

  async of(tokens: Uint32Array, from: number, signal: AbortSignal | undefined): Promise<ScoredRows> {
    if (this.#way !== null) return this.#by(this.#way, tokens, from, signal)
    const refusals: string[] = []
    // A server that left the field out of its answer does not know it, whatever the count.
    let knowsField = true
    for (const way of WAYS) {
      if (way.kind === 'prompt-logprobs' && !knowsField) continue
      try {
        const scored = await this.#by(way, tokens, from, signal)
        this.#way = way
        return scored
      } catch (error) {
        if (!(error instanceof LatheError) || (error.code !== 'remote.unsupported' && error.code !== 'remote.invalid-response')) throw error
        if (way.kind === 'prompt-logprobs' && error.code === 'remote.invalid-response') knowsField = false
        const name = way.kind === 'echo' ? 'echo with logprobs' : `prompt_logprobs ${way.count}`
        refusals.push(`${name}: ${error.message}`)
      }
    }
    throw new LatheError(
      'remote.unsupported',
      `${this.#model.id} tells no log-probabilities of a prompt's tokens. ${refusals.join(' ')}`,
      'Perplexity and drift need prompt_logprobs on /v1/completions (vLLM has them unless it was started with --max-logprobs 0; Lathe has them) or, for perplexity alone, echo with logprobs. Without either, measure tasks with generated answers.',
    )
  }

  async #by(way: Way, tokens: Uint32Array, from: number, signal: AbortSignal | undefined): Promise<ScoredRows> {
    const url = `${this.#client.baseUrl}/completions`
    const shared = { model: this.#model.id, prompt: [...tokens], temperature: 0 }
    const asked =
      way.kind === 'echo'
        ? { ...shared, max_tokens: way.generated, echo: true, logprobs: 1 }
        : { ...shared, max_tokens: 1, prompt_logprobs: way.count }
    const choice = firstChoice(await this.#client.request('POST', url, asked, signal))
    if (choice === null) throw invalidResponse(url, 'has no choices')
    if (way.kind === 'prompt-logprobs') {
      const list: unknown = choice['prompt_logprobs']
      if (!Array.isArray(list) || list.length !== tokens.length)
        throw invalidResponse(url, `has no prompt_logprobs of ${tokens.length} tokens`)
      return { rows: list.slice(from).map((entry, i) => rowOf(url, entry, tokens[from + i] ?? 0)), listed: way.count }
    }
    const echoed = readEcho(choice)?.slice(0, tokens.length) ?? []
    if (echoed.length !== tokens.length) throw invalidResponse(url, `has no log-probabilities of ${tokens.length} echoed tokens`)
    return { rows: echoed.slice(from).map(({ logprob }, i) => ownRow(url, logprob, tokens[from + i] ?? 0)), listed: 0 }
  }
}

function ownRow(url: string, logprob: number | null, target: number): PositionRow {
  if (logprob === null) throw invalidResponse(url, `has no log-probability of token ${target}`)
  return { targetLogprob: logprob, topId: null, logprobs: new Map([[target, logprob]]) }
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
