/**
 * POST /v1/completions: several prompts, several choices each, echo, and scoring (echo with `max_tokens` 0), which evaluation harnesses use
 * for log-likelihoods (specs/runtime.md §12, §15).
 */
import { randomUUID } from 'node:crypto'
import { finishReasonOf, resolveMaxTokens, runChoices, usageOf } from './completion-run.ts'
import type { ChoiceEnd, Usage } from './completion-run.ts'
import type { CompletionFields } from './request-schema.ts'
import type { ServedModel, ServedTokenizer } from './served-model.ts'
import type { ServingMetrics } from './serving-metrics.ts'
import type { EventStream } from './sse.ts'
import { ApiError } from './api-error.ts'

interface CompletionRun {
  readonly model: ServedModel
  readonly metrics: ServingMetrics
  readonly signal: AbortSignal
}

interface Prompt {
  readonly tokens: Uint32Array
  readonly text: string
  readonly maxTokens: number
}

interface Logprobs {
  readonly tokens: string[]
  readonly token_logprobs: (number | null)[]
  readonly top_logprobs: (Record<string, number> | null)[]
  readonly text_offset: number[]
}

function tokenText(tokenizer: ServedTokenizer, id: number): string {
  return new TextDecoder().decode(tokenizer.tokenBytes(id))
}

function preparePrompts(run: CompletionRun, fields: CompletionFields): Prompt[] {
  const { tokenizer, runtime } = run.model
  return fields.prompts.map((prompt) => {
    const tokens = typeof prompt === 'string' ? tokenizer.encode(prompt, { addSpecialTokens: true }) : Uint32Array.from(prompt)
    if (tokens.length === 0) throw new ApiError(400, 'The prompt has no tokens.', { param: 'prompt' })
    const foreign = tokens.find((id) => id >= runtime.info.vocabulary)
    if (foreign !== undefined)
      throw new ApiError(400, `Token ${foreign} is outside the vocabulary of ${runtime.info.vocabulary}.`, { param: 'prompt' })
    const text = typeof prompt === 'string' ? prompt : tokenizer.decode(tokens, { skipSpecialTokens: false })
    const maxTokens = fields.maxTokens === 0 ? 0 : resolveMaxTokens(tokens.length, fields.maxTokens, runtime.info.contextLimit)
    return { tokens, text, maxTokens }
  })
}

/** Log-probabilities of a prompt's own tokens; the first has none. */
async function scorePrompt(run: CompletionRun, prompt: Prompt, topCount: number): Promise<Logprobs> {
  const { tokenizer, runtime } = run.model
  const ids = [...prompt.tokens]
  const tokens = ids.map((id) => tokenText(tokenizer, id))
  const text_offset: number[] = []
  let offset = 0
  for (const token of tokens) {
    text_offset.push(offset)
    // OpenAI counts characters, not UTF-16 units.
    offset += [...token].length
  }
  if (ids.length === 1) return { tokens, token_logprobs: [null], top_logprobs: [null], text_offset }
  const scored = await runtime.score({ tokens: prompt.tokens, from: 1, topCount, signal: run.signal })
  const top_logprobs = Array.from(scored.logprobs, (logprob, j) => {
    const entries: [string, number][] = []
    for (let k = 0; k < topCount; k++) {
      entries.push([tokenText(tokenizer, scored.topIds[j * topCount + k] ?? 0), scored.topLogprobs[j * topCount + k] ?? -9999])
    }
    entries.push([tokens[j + 1] ?? '', logprob])
    return Object.fromEntries(entries)
  })
  return { tokens, token_logprobs: [null, ...scored.logprobs], top_logprobs: [null, ...top_logprobs], text_offset }
}

function addUsage(total: Usage, more: Usage): Usage {
  return {
    prompt_tokens: total.prompt_tokens + more.prompt_tokens,
    completion_tokens: total.completion_tokens + more.completion_tokens,
    total_tokens: total.total_tokens + more.total_tokens,
    prompt_tokens_details: { cached_tokens: total.prompt_tokens_details.cached_tokens + more.prompt_tokens_details.cached_tokens },
  }
}

const NO_USAGE: Usage = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, prompt_tokens_details: { cached_tokens: 0 } }

function sampledLogprobs(): Logprobs {
  return { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] }
}

/** The whole answer as one object. */
export async function completion(run: CompletionRun, fields: CompletionFields): Promise<object> {
  const prompts = preparePrompts(run, fields)
  const choices: object[] = []
  let usage = NO_USAGE
  for (const [promptIndex, prompt] of prompts.entries()) {
    if (prompt.maxTokens === 0) {
      const logprobs = fields.logprobs === undefined ? null : await scorePrompt(run, prompt, fields.logprobs)
      choices.push({ index: promptIndex, text: prompt.text, logprobs, finish_reason: 'length' })
      usage = addUsage(usage, usageOf(prompt.tokens.length, []))
      continue
    }
    const firstChoice = promptIndex * fields.choices
    const texts = new Map<number, string>()
    const sampled = new Map<number, Logprobs>()
    const ends: ChoiceEnd[] = []
    await runChoices(
      run.model,
      prompt.tokens,
      fields,
      { maxTokens: prompt.maxTokens, firstChoice, signal: run.signal, metrics: run.metrics },
      {
        onPiece: (piece) => {
          const before = texts.get(piece.choice) ?? (fields.echo ? prompt.text : '')
          const logprobs = sampled.get(piece.choice) ?? sampledLogprobs()
          for (const [index, id] of piece.ids.entries()) {
            logprobs.tokens.push(tokenText(run.model.tokenizer, id))
            logprobs.token_logprobs.push(piece.logprobs[index] ?? null)
            logprobs.top_logprobs.push(null)
            logprobs.text_offset.push([...before].length)
          }
          sampled.set(piece.choice, logprobs)
          texts.set(piece.choice, before + piece.text)
        },
        onEnd: (end) => ends.push(end),
      },
    )
    ends.sort((a, b) => a.choice - b.choice)
    for (const end of ends) {
      choices.push({
        index: end.choice,
        text: texts.get(end.choice) ?? (fields.echo ? prompt.text : ''),
        logprobs: fields.logprobs === undefined ? null : (sampled.get(end.choice) ?? sampledLogprobs()),
        finish_reason: finishReasonOf(end.reason),
        stop_reason: end.stopString ?? end.stopTokenId,
      })
    }
    usage = addUsage(usage, usageOf(prompt.tokens.length, ends))
  }
  return {
    id: `cmpl-${randomUUID()}`,
    object: 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model: run.model.name,
    choices,
    usage,
  }
}

/** The answer in chunks; prompts run at the same time, choices are told apart by index. */
export async function streamCompletion(run: CompletionRun, fields: CompletionFields, open: () => EventStream): Promise<void> {
  const prompts = preparePrompts(run, fields)
  if (prompts.some((prompt) => prompt.maxTokens === 0))
    throw new ApiError(400, 'Scoring a prompt can not be streamed.', { param: 'stream' })
  const stream = open()
  const head = { id: `cmpl-${randomUUID()}`, object: 'text_completion', created: Math.floor(Date.now() / 1000), model: run.model.name }
  const usageField = fields.includeUsage ? { usage: null } : {}
  const send = (choice: object): void => stream.send({ ...head, choices: [choice], ...usageField })
  const stopped = new AbortController()
  const signal = AbortSignal.any([run.signal, stopped.signal])
  const runPrompt = async (prompt: Prompt, promptIndex: number): Promise<Usage> => {
    const firstChoice = promptIndex * fields.choices
    const ends: ChoiceEnd[] = []
    if (fields.echo)
      for (let i = 0; i < fields.choices; i++) send({ index: firstChoice + i, text: prompt.text, logprobs: null, finish_reason: null })
    await runChoices(
      run.model,
      prompt.tokens,
      fields,
      { maxTokens: prompt.maxTokens, firstChoice, signal, metrics: run.metrics },
      {
        onPiece: (piece) => send({ index: piece.choice, text: piece.text, logprobs: null, finish_reason: null }),
        onEnd: (end) => {
          ends.push(end)
          send({
            index: end.choice,
            text: '',
            logprobs: null,
            finish_reason: finishReasonOf(end.reason),
            stop_reason: end.stopString ?? end.stopTokenId,
          })
        },
      },
    )
    return usageOf(prompt.tokens.length, ends)
  }
  try {
    const usages = await Promise.all(prompts.map(runPrompt))
    if (fields.includeUsage) stream.send({ ...head, choices: [], usage: usages.reduce(addUsage, NO_USAGE) })
  } catch (failure) {
    stopped.abort()
    throw failure
  }
}
