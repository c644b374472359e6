/**
 * POST /v1/completions: several prompts, several choices each, echo, and scoring (echo with `max_tokens` 0), which evaluation harnesses use
 * for log-likelihoods (specs/runtime.md §12, §15).
 */
import type { ScoreResult } from '../runtime/types.ts'
import { ApiError } from './api-error.ts'
import type { CompletionFields } from './completion-request.ts'
import { finishReasonOf, fitPrompt, metricsOf, resolveMaxTokens, runChoices, usageOf } from './completion-run.ts'
import type { ChoiceEnd, PromptRun, RequestRun, RunHandlers, Usage } from './completion-run.ts'
import { fewAtOnce } from './few-at-once.ts'
import type { EventStream } from './sse.ts'
import { addPiece, noLogprobs, promptLogprobs, scoredLogprobs } from './token-logprobs.ts'
import type { CompletionLogprobs } from './token-logprobs.ts'

/** More than a device answers together; a quarter of the queue that is usual, which other clients wait in too. */
const MOST_AT_ONCE = 64

function promptsAtOnce({ choices }: CompletionFields): number {
  return Math.max(1, Math.floor(MOST_AT_ONCE / choices))
}

interface Prompt {
  readonly tokens: Uint32Array
  readonly text: string
  readonly maxTokens: number
  readonly dropped: number
}

function preparePrompts(run: RequestRun, fields: CompletionFields): Prompt[] {
  const { tokenizer, runtime } = run.model
  const { contextLimit, vocabulary } = runtime.info
  return fields.prompts.map((prompt) => {
    const encoded =
      typeof prompt === 'string' ? tokenizer.encode(prompt, { addSpecialTokens: fields.addSpecialTokens }) : Uint32Array.from(prompt)
    if (encoded.length === 0) throw new ApiError(400, 'The prompt has no tokens.', { param: 'prompt' })
    const foreign = encoded.find((id) => id >= vocabulary)
    if (foreign !== undefined) throw new ApiError(400, `Token ${foreign} is outside the vocabulary of ${vocabulary}.`, { param: 'prompt' })
    const { tokens, dropped } = fitPrompt(encoded, fields, contextLimit)
    const text = typeof prompt === 'string' && dropped === 0 ? prompt : tokenizer.decode(tokens, { skipSpecialTokens: false })
    const maxTokens =
      fields.maxTokens === 0
        ? 0
        : resolveMaxTokens(tokens.length, fields.maxTokens, contextLimit, { param: 'prompt', overlong: run.overlong })
    return { tokens, text, maxTokens, dropped }
  })
}

async function score(run: RequestRun, tokens: Uint32Array, topCount: number): Promise<ScoreResult | null> {
  if (tokens.length < 2) return null
  return run.model.runtime.score({ tokens, from: 1, topCount, signal: run.signal })
}

/** Of the prompt that comes back in front of the answer; null where nobody asked for both. */
async function echoedLogprobs(run: RequestRun, fields: CompletionFields, prompt: Prompt): Promise<CompletionLogprobs | null> {
  if (!fields.echo || fields.logprobs === undefined) return null
  const scores = await score(run, prompt.tokens, fields.logprobs)
  return scoredLogprobs(run.model.tokenizer, [...prompt.tokens], scores, fields.logprobs)
}

function addUsage(total: Usage, more: Usage): Usage {
  const dropped = (total.prompt_tokens_details.truncated_tokens ?? 0) + (more.prompt_tokens_details.truncated_tokens ?? 0)
  return {
    prompt_tokens: total.prompt_tokens + more.prompt_tokens,
    completion_tokens: total.completion_tokens + more.completion_tokens,
    total_tokens: total.total_tokens + more.total_tokens,
    prompt_tokens_details: {
      cached_tokens: total.prompt_tokens_details.cached_tokens + more.prompt_tokens_details.cached_tokens,
      ...(dropped > 0 && { truncated_tokens: dropped }),
    },
  }
}

const NO_USAGE: Usage = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, prompt_tokens_details: { cached_tokens: 0 } }

function promptRun(prompt: Prompt, index: number, fields: CompletionFields): PromptRun {
  return {
    promptTokens: prompt.tokens,
    maxTokens: prompt.maxTokens,
    firstChoice: index * fields.choices,
    topLogprobs: fields.logprobs ?? 0,
  }
}

interface Answer {
  text: string
  readonly logprobs: CompletionLogprobs
  readonly ids: number[]
  end: ChoiceEnd | null
}

async function answerPrompt(
  run: RequestRun,
  fields: CompletionFields,
  prompt: Prompt,
  index: number,
): Promise<{ choices: object[]; usage: Usage; ends: ChoiceEnd[] }> {
  const { tokenizer } = run.model
  const ids = [...prompt.tokens]
  const top = fields.logprobs ?? 0
  const firstChoice = index * fields.choices
  let scores: ScoreResult | null = null
  const before = await echoedLogprobs(run, fields, prompt)
  if (prompt.maxTokens === 0) {
    if (fields.promptLogprobs !== undefined) scores = await score(run, prompt.tokens, fields.promptLogprobs)
    const choice = {
      index: firstChoice,
      text: prompt.text,
      logprobs: before,
      finish_reason: 'length',
      ...(scores !== null && { prompt_logprobs: promptLogprobs(tokenizer, ids, scores, fields.promptLogprobs ?? 0) }),
    }
    return { choices: [choice], usage: usageOf(ids.length, [], prompt.dropped), ends: [] }
  }
  const answers = Array.from({ length: fields.choices }, (): Answer => {
    const logprobs = noLogprobs()
    if (before !== null)
      for (const key of ['tokens', 'token_logprobs', 'top_logprobs', 'text_offset'] as const)
        (logprobs[key] as unknown[]).push(...before[key])
    return { text: fields.echo ? prompt.text : '', logprobs, ids: [], end: null }
  })
  await runChoices(run, fields, promptRun(prompt, index, fields), {
    onPiece: (piece) => {
      const answer = answers[piece.choice - firstChoice]
      if (answer === undefined) return
      addPiece(answer.logprobs, tokenizer, piece, top, [...answer.text].length)
      answer.text += piece.text
      answer.ids.push(...piece.ids)
    },
    onEnd: (end) => {
      const answer = answers[end.choice - firstChoice]
      if (answer !== undefined) answer.end = end
    },
    onPrompt: (result) => {
      scores = result
    },
  })
  const ends = answers.flatMap(({ end }) => (end === null ? [] : [end]))
  const choices = answers.map((answer, at) => ({
    index: firstChoice + at,
    text: answer.text,
    logprobs: fields.logprobs === undefined ? null : answer.logprobs,
    finish_reason: finishReasonOf(answer.end?.reason ?? 'aborted'),
    stop_reason: answer.end?.stopString ?? answer.end?.stopTokenId ?? null,
    ...(fields.returnTokenIds && { token_ids: answer.ids, prompt_token_ids: ids }),
    ...(scores !== null && { prompt_logprobs: promptLogprobs(tokenizer, ids, scores, fields.promptLogprobs ?? 0) }),
  }))
  return { choices, usage: usageOf(ids.length, ends, prompt.dropped), ends }
}

/** The whole answer as one object. Prompts run at the same time, up to a number that leaves others their place. */
export async function completion(run: RequestRun, fields: CompletionFields): Promise<object> {
  const prompts = preparePrompts(run, fields)
  const stopped = new AbortController()
  const together = { ...run, signal: AbortSignal.any([run.signal, stopped.signal]) }
  const answers = await fewAtOnce(prompts, promptsAtOnce(fields), (prompt, index) => answerPrompt(together, fields, prompt, index)).catch(
    (failure: unknown) => {
      stopped.abort()
      throw failure
    },
  )
  const first = answers[0]?.ends[0] ?? null
  return {
    id: `cmpl-${run.id}`,
    object: 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model: run.model.name,
    choices: answers.flatMap(({ choices }) => choices),
    usage: answers.map((answer) => answer.usage).reduce(addUsage, NO_USAGE),
    ...(fields.returnMetrics && first !== null && { metrics: metricsOf(first.stats) }),
  }
}

interface PromptEnd {
  readonly usage: Usage
  readonly first: ChoiceEnd | null
}

/** The answer in chunks; prompts run at the same time, choices are told apart by index. */
export async function streamCompletion(run: RequestRun, fields: CompletionFields, open: () => EventStream): Promise<void> {
  const prompts = preparePrompts(run, fields)
  if (prompts.some((prompt) => prompt.maxTokens === 0))
    throw new ApiError(400, 'Scoring a prompt can not be streamed.', { param: 'stream' })
  if (fields.structured !== null) (await run.model.grammars.compile(fields.structured, run.signal))[Symbol.dispose]()
  const stream = open()
  const head = { id: `cmpl-${run.id}`, object: 'text_completion', created: Math.floor(Date.now() / 1000), model: run.model.name }
  let promptTokens = 0
  let completionTokens = 0
  for (const prompt of prompts) promptTokens += prompt.tokens.length
  const usageField = (): object => {
    if (!fields.continuousUsage) return fields.includeUsage ? { usage: null } : {}
    return { usage: { prompt_tokens: promptTokens, completion_tokens: completionTokens, total_tokens: promptTokens + completionTokens } }
  }
  const send = (choice: object): void => stream.send({ ...head, choices: [choice], ...usageField() })
  const started = performance.now()
  const prefilled = prompts.map(() => ({ processed: 0, cache: 0 }))
  const sendProgress = (): void => {
    const processed = prefilled.reduce((sum, prompt) => sum + prompt.processed, 0)
    const cache = prefilled.reduce((sum, prompt) => sum + prompt.cache, 0)
    const time_ms = Math.round(performance.now() - started)
    stream.send({ ...head, choices: [], prompt_progress: { total: promptTokens, cache, processed, time_ms }, ...usageField() })
  }
  const stopped = new AbortController()
  const together = { ...run, signal: AbortSignal.any([run.signal, stopped.signal]) }
  const runPrompt = async (prompt: Prompt, index: number): Promise<PromptEnd> => {
    const firstChoice = index * fields.choices
    const ends: ChoiceEnd[] = []
    // Offsets are those of the whole text, as in an answer that is not streamed.
    const written = Array.from({ length: fields.choices }, () => (fields.echo ? [...prompt.text].length : 0))
    if (fields.echo) {
      const logprobs = await echoedLogprobs(together, fields, prompt)
      for (let i = 0; i < fields.choices; i++) send({ index: firstChoice + i, text: prompt.text, logprobs, finish_reason: null })
    }
    const begun = new Set<number>()
    const handlers: RunHandlers = {
      onProgress: (processed, _total, cache) => {
        prefilled[index] = { processed, cache }
        if (fields.returnProgress) sendProgress()
      },
      onPiece: (piece) => {
        completionTokens += piece.ids.length
        const at = piece.choice - firstChoice
        const logprobs = noLogprobs()
        addPiece(logprobs, run.model.tokenizer, piece, fields.logprobs ?? 0, written[at] ?? 0)
        written[at] = (written[at] ?? 0) + [...piece.text].length
        send({
          index: piece.choice,
          text: piece.text,
          logprobs: fields.logprobs === undefined ? null : logprobs,
          finish_reason: null,
          ...(fields.returnTokenIds && { token_ids: piece.ids, ...(!begun.has(piece.choice) && { prompt_token_ids: [...prompt.tokens] }) }),
        })
        begun.add(piece.choice)
      },
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
    }
    await runChoices(together, fields, promptRun(prompt, index, fields), handlers)
    return { usage: usageOf(prompt.tokens.length, ends, prompt.dropped), first: ends.find((end) => end.choice === firstChoice) ?? null }
  }
  try {
    const answers = await fewAtOnce(prompts, promptsAtOnce(fields), runPrompt)
    const first = answers[0]?.first ?? null
    const metrics = fields.returnMetrics && first !== null ? { metrics: metricsOf(first.stats) } : {}
    if (fields.includeUsage)
      stream.send({ ...head, choices: [], usage: answers.map((answer) => answer.usage).reduce(addUsage, NO_USAGE), ...metrics })
    else if (fields.returnMetrics) stream.send({ ...head, choices: [], ...metrics })
  } catch (failure) {
    stopped.abort()
    throw failure
  }
}
