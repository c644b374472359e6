/**
 * What a caller may ask for, and how it is normalised (specs/runtime.md §5.2, §14).
 * The arithmetic is the backend's; here a request is either made exact or refused with `runtime.invalid-request`.
 */
import { randomBytes } from 'node:crypto'
import { LatheError } from '../contract/errors.ts'
import { MAX_TOP_COUNT } from '../gpu/check-step.ts'
import type { RowSampler } from '../gpu/program.ts'
import type { GenerationRequest, SamplingParameters, ScoreRequest } from './types.ts'

/** A RowSampler less its output index, and the seed as it is reported to the caller. */
export interface ResolvedSampling extends Omit<RowSampler, 'outputIndex'> {
  readonly seed: number
}

export interface RequestLimits {
  readonly vocabulary: number
  readonly contextLimit: number
}

/** Below this, dividing logits by the temperature says no more than argmax does. */
const GREEDY_BELOW = 1e-5
/** Logits divided by less than this overflow f32 for ordinary models; vLLM clamps at the same place. */
const LEAST_TEMPERATURE = 0.01
const MOST_TEMPERATURE = 2
/** Generous: OpenAI allows 4. Each costs a search in every piece of text. */
const MOST_STOP_STRINGS = 16
/** A stop string withholds up to this much text; anything longer is a mistake. */
const MOST_STOP_STRING_LENGTH = 1024
const MOST_STOP_TOKEN_IDS = 1024
const MOST_PENALTY = 2
/** OpenAI's limit; vLLM clamps to it. Enough to decide any choice. */
const MOST_BIAS = 100
/** Each is compared at every token. */
const MOST_BAD_WORDS = 1024
const U64 = 64
const U32_MASK = 0xffffffffn
/** 48 bits: a drawn seed is exact as a JSON number. */
const DRAWN_SEED_BYTES = 6

/** Whether answers at this temperature are those of argmax, the same every time. */
export function isGreedyTemperature(temperature: number): boolean {
  return temperature < GREEDY_BELOW
}

/** Throws `runtime.invalid-request`. Draws a seed where none is given. */
export function resolveSampling(parameters: SamplingParameters): ResolvedSampling {
  const { temperature, topK, topP, minP } = parameters
  requireRange('temperature', temperature, temperature >= 0 && temperature <= MOST_TEMPERATURE, `0…${MOST_TEMPERATURE}`)
  requireRange('top-k', topK, Number.isInteger(topK) && topK >= -1, 'a whole number, 0 or −1 for off')
  requireRange('top-p', topP, topP > 0 && topP <= 1, 'above 0, at most 1')
  requireRange('min-p', minP, minP >= 0 && minP <= 1, '0…1')
  const seed = parameters.seed === undefined || parameters.seed === -1 ? drawSeed() : parameters.seed
  return {
    temperature: isGreedyTemperature(temperature) ? 0 : Math.max(temperature, LEAST_TEMPERATURE),
    topK: Math.max(topK, 0),
    topP,
    minP,
    seed,
    ...foldSeed(seed),
  }
}

/** The parameters that change logits, checked, with biases clamped. Throws `runtime.invalid-request`. */
export function resolveRules(parameters: SamplingParameters, vocabulary: number): SamplingParameters {
  const { presencePenalty = 0, frequencyPenalty = 0, repetitionPenalty = 1, logitBias, badWords = [], allowedTokenIds } = parameters
  const penaltyRange = `−${MOST_PENALTY}…${MOST_PENALTY}`
  requireRange('presence penalty', presencePenalty, Math.abs(presencePenalty) <= MOST_PENALTY, penaltyRange)
  requireRange('frequency penalty', frequencyPenalty, Math.abs(frequencyPenalty) <= MOST_PENALTY, penaltyRange)
  requireRange(
    'repetition penalty',
    repetitionPenalty,
    repetitionPenalty > 0 && repetitionPenalty <= MOST_PENALTY,
    `above 0, at most ${MOST_PENALTY}`,
  )
  const bias = new Map<number, number>()
  for (const [id, value] of logitBias ?? []) {
    requireToken('biased token', id, vocabulary)
    requireRange(`bias of token ${id}`, value, !Number.isNaN(value), 'a number')
    bias.set(id, value === -Infinity ? value : Math.max(-MOST_BIAS, Math.min(value, MOST_BIAS)))
  }
  requireRange('number of bad words', badWords.length, badWords.length <= MOST_BAD_WORDS, `at most ${MOST_BAD_WORDS}`)
  for (const word of badWords) {
    requireRange('length of a bad word', word.length, word.length > 0, 'at least one token')
    for (const id of word) requireToken('token of a bad word', id, vocabulary)
  }
  if (allowedTokenIds !== undefined) {
    requireRange('number of allowed tokens', allowedTokenIds.length, allowedTokenIds.length > 0, 'at least one')
    for (const id of allowedTokenIds) requireToken('allowed token', id, vocabulary)
  }
  return { ...parameters, ...(bias.size === 0 ? { logitBias: undefined } : { logitBias: bias }) }
}

/** The two halves of the seed modulo 2^64 (two's complement for negative ones). Doubles beyond 2^53 are whole numbers and taken exactly. */
export function foldSeed(seed: number): { readonly seedLow: number; readonly seedHigh: number } {
  requireRange('seed', seed, Number.isInteger(seed), 'a whole number')
  const bits = BigInt.asUintN(U64, BigInt(seed))
  return { seedLow: Number(bits & U32_MASK), seedHigh: Number(bits >> 32n) }
}

/** Checks all of a generation request but its sampling. Throws `runtime.invalid-request` or `runtime.context-exceeded`. */
export function validateGeneration(request: GenerationRequest, limits: RequestLimits): void {
  validateTokens(request.promptTokens, limits.vocabulary)
  const prompt = request.promptTokens.length
  if (prompt >= limits.contextLimit) throw contextExceeded(prompt, limits.contextLimit)
  const { maxTokens, stopStrings = [], stopTokenIds = [] } = request
  if (maxTokens !== undefined)
    requireRange('max tokens', maxTokens, Number.isInteger(maxTokens) && maxTokens >= 1, 'a whole number above 0')
  const { minTokens = 0, topLogprobs = 0, promptLogprobs = 0, priority = 0 } = request
  const mostMin = maxTokens ?? limits.contextLimit
  requireRange('min tokens', minTokens, Number.isInteger(minTokens) && minTokens >= 0 && minTokens <= mostMin, `0…${mostMin}`)
  const mostTop = Math.min(MAX_TOP_COUNT, limits.vocabulary)
  for (const [what, count] of [
    ['top log-probabilities', topLogprobs],
    ['prompt log-probabilities', promptLogprobs],
  ] as const)
    requireRange(`number of ${what}`, count, Number.isInteger(count) && count >= 0 && count <= mostTop, `0…${mostTop}`)
  requireRange('priority', priority, Number.isInteger(priority), 'a whole number')
  requireRange('number of stop strings', stopStrings.length, stopStrings.length <= MOST_STOP_STRINGS, `at most ${MOST_STOP_STRINGS}`)
  for (const stop of stopStrings) {
    requireRange(
      'stop string length',
      stop.length,
      stop.length > 0 && stop.length <= MOST_STOP_STRING_LENGTH,
      `1…${MOST_STOP_STRING_LENGTH}`,
    )
  }
  requireRange('number of stop ids', stopTokenIds.length, stopTokenIds.length <= MOST_STOP_TOKEN_IDS, `at most ${MOST_STOP_TOKEN_IDS}`)
  for (const id of stopTokenIds) {
    requireToken('stop id', id, limits.vocabulary)
  }
}

/** Checks a scoring request. Throws `runtime.invalid-request` or `runtime.context-exceeded`. */
export function validateScore(request: ScoreRequest, limits: RequestLimits): void {
  const { tokens, from, topCount = 0 } = request
  validateTokens(tokens, limits.vocabulary)
  const most = Math.min(MAX_TOP_COUNT, limits.vocabulary)
  requireRange('number of top tokens', topCount, Number.isInteger(topCount) && topCount >= 0 && topCount <= most, `0…${most}`)
  const inside = Number.isInteger(from) && from >= 1 && from < tokens.length
  requireRange('first token to score', from, inside, `1…${tokens.length - 1} for a sequence of ${tokens.length}`)
  if (tokens.length - 1 > limits.contextLimit) {
    throw new LatheError(
      'runtime.context-exceeded',
      `The sequence to score has ${tokens.length} tokens; the context holds ${limits.contextLimit} and the one after them.`,
      'Score it in shorter windows, or load the model with a larger context.',
      { data: { tokens: tokens.length, contextLimit: limits.contextLimit } },
    )
  }
}

/** Throws `runtime.invalid-request` for an empty sequence or an id outside of the model's vocabulary. */
export function validateTokens(tokens: Uint32Array, vocabulary: number): void {
  if (tokens.length === 0) {
    throw new LatheError(
      'runtime.invalid-request',
      'The prompt has no tokens.',
      'Send at least one token, e.g. the beginning-of-text token.',
    )
  }
  const index = tokens.findIndex((token) => token >= vocabulary)
  if (index < 0) return
  throw new LatheError(
    'runtime.invalid-request',
    `Token ${tokens[index]} at position ${index} is outside of the model's vocabulary of ${vocabulary}.`,
    'The tokens come from another tokenizer than this model’s. Tokenize again with the model’s own.',
  )
}

function contextExceeded(prompt: number, limit: number): LatheError {
  return new LatheError(
    'runtime.context-exceeded',
    `The prompt has ${prompt} tokens; the context holds ${limit}, of which at least one is for the answer.`,
    'Shorten the prompt, start a new conversation, or load the model with a larger context.',
    { data: { promptTokens: prompt, contextLimit: limit } },
  )
}

/** A seed that is exact as a JSON number. */
export function drawSeed(): number {
  return randomBytes(DRAWN_SEED_BYTES).readUIntLE(0, DRAWN_SEED_BYTES)
}

function requireToken(what: string, id: number, vocabulary: number): void {
  requireRange(what, id, Number.isInteger(id) && id >= 0 && id < vocabulary, `0…${vocabulary - 1}`)
}

function requireRange(what: string, value: number, valid: boolean, range: string): void {
  if (valid) return
  throw new LatheError('runtime.invalid-request', `The ${what} is ${value}.`, `It must be ${range}.`, { data: { field: what, value } })
}
