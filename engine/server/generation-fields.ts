/**
 * The sampling fields that chat and text completions share, checked and brought into one form (specs/runtime.md §5.2, §12, §14). Fields this
 * server does not know are ignored, as the reference servers do; those it knows but can't honour are refused by name.
 */
import { z } from 'zod'
import type { SamplingParameters } from '../runtime/types.ts'
import { badRequest, notImplemented, optional } from './parse-body.ts'
import { structuredOutputs } from './structured-fields.ts'
import type { StructuredOutput } from '../runtime/structured/grammar-source.ts'
import type { ServedTokenizer } from './served-model.ts'

/** vLLM allows any number of stop strings; each is searched in every new piece of text, so there is a bound. */
const MAX_STOP_STRINGS = 16
/** More parallel answers than this is a mistake on one machine. */
const MAX_CHOICES = 64
const MAX_BAD_WORDS = 256
const TOKEN_ID = z.number().int().min(0)

export const GENERATION_SHAPE = {
  model: z.string().min(1),
  temperature: optional(z.number().min(0).max(2)),
  top_p: optional(z.number().gt(0).max(1)),
  top_k: optional(z.number().int().min(-1)),
  min_p: optional(z.number().min(0).max(1)),
  // Not z.int(), which ends at 2^53: clients draw seeds of 64 bits.
  seed: optional(
    z
      .number()
      .min(-(2 ** 64))
      .max(2 ** 64)
      .refine(Number.isInteger, 'expected a whole number'),
  ),
  n: optional(z.number().int().min(1).max(MAX_CHOICES)),
  best_of: optional(z.number().int().min(1)),
  use_beam_search: optional(z.boolean()),
  max_tokens: optional(z.number().int().min(0)),
  min_tokens: optional(z.number().int().min(0)),
  stop: optional(z.union([z.string().min(1), z.array(z.string().min(1)).max(MAX_STOP_STRINGS)])),
  stop_token_ids: optional(z.array(TOKEN_ID).max(1024)),
  include_stop_str_in_output: optional(z.boolean()),
  ignore_eos: optional(z.boolean()),
  skip_special_tokens: optional(z.boolean()),
  presence_penalty: optional(z.number().min(-2).max(2)),
  frequency_penalty: optional(z.number().min(-2).max(2)),
  repetition_penalty: optional(z.number().gt(0).max(2)),
  logit_bias: optional(z.record(z.string().regex(/^\d{1,9}$/, 'keys are token ids'), z.number().min(-100).max(100))),
  bad_words: optional(z.array(z.string().min(1)).max(MAX_BAD_WORDS)),
  allowed_token_ids: optional(z.array(TOKEN_ID).min(1)),
  prompt_logprobs: optional(z.number().int().min(0).max(20)),
  truncate_prompt_tokens: optional(z.number().int().min(-1)),
  return_token_ids: optional(z.boolean()),
  priority: optional(z.number().int()),
  cache_salt: optional(z.string().min(1).max(4096)),
  request_id: optional(
    z
      .string()
      .min(1)
      .max(128)
      .regex(/^[\w.:-]+$/, 'letters, digits and . : _ - only'),
  ),
  stream: optional(z.boolean()),
  stream_options: optional(z.object({ include_usage: optional(z.boolean()), continuous_usage_stats: optional(z.boolean()) })),
  return_progress: optional(z.boolean()),
  return_metrics: optional(z.boolean()),
  structured_outputs: optional(z.unknown()),
  guided_json: optional(z.unknown()),
  guided_regex: optional(z.string()),
  guided_choice: optional(z.array(z.string())),
  guided_grammar: optional(z.string()),
  guided_whitespace_pattern: optional(z.string()),
  structural_tag: optional(z.unknown()),
  regex: optional(z.string()),
  ebnf: optional(z.string()),
  kv_transfer_params: optional(z.unknown()),
}

/** What clients send that changes no answer of a server with one user: taken without a word. */
export const MEANINGLESS_FIELDS = [
  'user',
  'store',
  'metadata',
  'service_tier',
  'safety_identifier',
  'prompt_cache_key',
  'spaces_between_special_tokens',
  'guided_decoding_backend',
]

export type GenerationBody = z.output<z.ZodObject<typeof GENERATION_SHAPE>>

export interface GenerationFields {
  readonly model: string
  /** Parameters the client gave; those it left out take the checkpoint's defaults. */
  readonly sampling: Partial<SamplingParameters>
  /** Words that may not be generated, as text: the model's tokenizer turns them into tokens. */
  readonly badWords: readonly string[]
  readonly choices: number
  /** What the client asked for; undefined = the endpoint's default. */
  readonly maxTokens: number | undefined
  readonly minTokens: number | undefined
  readonly stop: readonly string[]
  readonly stopTokenIds: readonly number[]
  readonly includeStop: boolean
  readonly ignoreEos: boolean
  readonly skipSpecialTokens: boolean
  readonly promptLogprobs: number | undefined
  /** Most of the prompt's tokens to keep, from its end; −1 = as many as fit. undefined = all, or an error. */
  readonly truncatePrompt: number | undefined
  readonly returnTokenIds: boolean
  readonly priority: number | undefined
  readonly cacheSalt: string | undefined
  readonly requestId: string | undefined
  readonly stream: boolean
  readonly includeUsage: boolean
  readonly continuousUsage: boolean
  readonly returnProgress: boolean
  readonly returnMetrics: boolean
  readonly structured: StructuredOutput | null
}

/** Leaves out what is undefined, so that it does not hide a default. */
function given(values: { readonly [K in keyof SamplingParameters]?: SamplingParameters[K] | undefined }): Partial<SamplingParameters> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
}

export function generationFields(
  body: GenerationBody,
  maxTokens: number | undefined,
  responseFormat: StructuredOutput | null = null,
): GenerationFields {
  if (body.stream !== true && body.stream_options !== undefined)
    throw badRequest('stream_options', '"stream_options" is only allowed when "stream" is true.')
  if (body.stream === true && body.prompt_logprobs !== undefined)
    throw badRequest('prompt_logprobs', '"prompt_logprobs" can not be streamed.')
  const choices = body.n ?? 1
  if (choices > 1 && body.temperature === 0) throw badRequest('n', '"n" must be 1 for greedy sampling: every answer would be the same.')
  if ((body.best_of ?? choices) > choices)
    throw badRequest('best_of', '"best_of" is gone from current servers; ask for "n" answers and choose.')
  if (body.use_beam_search === true) throw notImplemented('use_beam_search', 'Beam search')
  if (body.kv_transfer_params !== undefined) throw notImplemented('kv_transfer_params', 'Handing over KV blocks between servers')
  if ((body.min_tokens ?? 0) > (maxTokens ?? Infinity))
    throw badRequest('min_tokens', `"min_tokens" is above the ${maxTokens} tokens allowed.`)
  const structured = structuredOutputs(body, responseFormat)
  if (structured !== null && body.ignore_eos === true)
    throw badRequest('ignore_eos', '"ignore_eos" contradicts structured output, whose end is the end of the answer.')
  const seed = body.seed === undefined || body.seed === -1 ? undefined : exactSeed(body.seed)
  return {
    model: body.model,
    sampling: given({
      temperature: body.temperature,
      topK: body.top_k === -1 ? 0 : body.top_k,
      topP: body.top_p,
      minP: body.min_p,
      seed,
      presencePenalty: neutral(body.presence_penalty, 0),
      frequencyPenalty: neutral(body.frequency_penalty, 0),
      repetitionPenalty: neutral(body.repetition_penalty, 1),
      logitBias: biases(body.logit_bias),
      allowedTokenIds: body.allowed_token_ids,
    }),
    badWords: body.bad_words ?? [],
    choices,
    maxTokens,
    minTokens: neutral(body.min_tokens, 0),
    stop: typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []),
    stopTokenIds: body.stop_token_ids ?? [],
    includeStop: body.include_stop_str_in_output ?? false,
    ignoreEos: body.ignore_eos ?? false,
    skipSpecialTokens: body.skip_special_tokens ?? true,
    promptLogprobs: body.prompt_logprobs,
    truncatePrompt: body.truncate_prompt_tokens,
    returnTokenIds: body.return_token_ids ?? false,
    priority: body.priority,
    cacheSalt: body.cache_salt,
    requestId: body.request_id,
    stream: body.stream ?? false,
    includeUsage: body.stream_options?.include_usage ?? false,
    continuousUsage: body.stream_options?.continuous_usage_stats ?? false,
    returnProgress: body.return_progress ?? false,
    returnMetrics: body.return_metrics ?? false,
    structured,
  }
}

/** The largest prime below 2^53: what is left of a division by it is a whole number that can be counted on from. */
const SEED_MODULUS = 9_007_199_254_740_881n

/** JSON has lost the last bits of a seed beyond 2^53; choices count upwards from theirs, which a double of that size can't. */
function exactSeed(seed: number): number {
  return Number.isSafeInteger(seed) ? seed : Number(BigInt(seed) % SEED_MODULUS)
}

/** A value that changes nothing is as good as none. */
function neutral(value: number | undefined, without: number): number | undefined {
  return value === without ? undefined : value
}

function biases(map: Readonly<Record<string, number>> | undefined): ReadonlyMap<number, number> | undefined {
  const entries = Object.entries(map ?? {}).map(([id, bias]): [number, number] => [Number(id), bias])
  return entries.length === 0 ? undefined : new Map(entries)
}

/** Checks the ids that only a loaded model can judge, and turns words into tokens. Throws ApiError 400. */
export function resolveSampling(
  fields: GenerationFields,
  model: { readonly tokenizer: ServedTokenizer; readonly vocabulary: number; readonly defaults: SamplingParameters },
): SamplingParameters {
  const { sampling, badWords } = fields
  const foreign = (ids: Iterable<number>, param: string): void => {
    for (const id of ids)
      if (id >= model.vocabulary) throw badRequest(param, `Token ${id} is outside of the vocabulary of ${model.vocabulary}.`)
  }
  foreign(sampling.logitBias?.keys() ?? [], 'logit_bias')
  foreign(sampling.allowedTokenIds ?? [], 'allowed_token_ids')
  foreign(fields.stopTokenIds, 'stop_token_ids')
  const sequences = badWords.flatMap((word) => tokenSequences(word, model.tokenizer))
  return { ...model.defaults, ...sampling, ...(sequences.length > 0 && { badWords: sequences }) }
}

/** A word's tokens as they stand at the start of a text and after a space, which are different ones. */
function tokenSequences(word: string, tokenizer: ServedTokenizer): number[][] {
  const texts = word.startsWith(' ') ? [word] : [word, ` ${word}`]
  const sequences = texts.map((text) => [...tokenizer.encode(text, { addSpecialTokens: false })]).filter((ids) => ids.length > 0)
  return [...new Map(sequences.map((ids) => [ids.join(','), ids])).values()]
}
