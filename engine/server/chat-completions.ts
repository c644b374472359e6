/** POST /v1/chat/completions, streamed and whole (specs/runtime.md §12, §13, §15). */
import type { ScoreResult } from '../runtime/types.ts'
import { AnswerAssembler, compileForm, prepareChat } from './chat-run.ts'
import type { AnswerPart, PreparedChat } from './chat-run.ts'
import type { ChatFields } from './chat-request.ts'
import { finishReasonOf, metricsOf, runChoices, usageOf } from './completion-run.ts'
import type { ChoiceEnd, ChoicePiece, RequestRun, Usage } from './completion-run.ts'
import type { EventStream } from './sse.ts'
import { chatLogprobs, promptLogprobs } from './token-logprobs.ts'

interface Choice {
  readonly assembler: AnswerAssembler
  readonly logprobs: object[]
  readonly ids: number[]
  end: ChoiceEnd | null
}

function newChoices(fields: ChatFields, prepared: PreparedChat): readonly Choice[] {
  return Array.from({ length: fields.choices }, () => ({
    assembler: new AnswerAssembler(prepared, fields),
    logprobs: [],
    ids: [],
    end: null,
  }))
}

/** A call that had to be made ends with `stop`, as OpenAI and vLLM have it; one that the model chose with `tool_calls`. */
function finishReason(fields: ChatFields, { assembler, end }: Choice): string {
  const reason = finishReasonOf(end?.reason ?? 'aborted')
  return reason === 'stop' && assembler.calls.length > 0 && fields.tools?.choice !== 'named' ? 'tool_calls' : reason
}

function stopReason(end: ChoiceEnd | null): string | number | null {
  return end?.stopString ?? end?.stopTokenId ?? null
}

function usage(prepared: PreparedChat, choices: readonly Choice[]): Usage {
  const whole = usageOf(
    prepared.promptTokens.length,
    choices.flatMap(({ end }) => (end === null ? [] : [end])),
    prepared.dropped,
  )
  const reasoning = choices.reduce((sum, { assembler }) => sum + assembler.reasoningTokens, 0)
  return prepared.reasoning === 'none' ? whole : { ...whole, completion_tokens_details: { reasoning_tokens: reasoning } }
}

/** vLLM has renamed the field that others call reasoning_content; clients look for either. */
function reasoningFields(text: string): object {
  return { reasoning: text, reasoning_content: text }
}

function message({ assembler }: Choice, prefix: string): object {
  const { content, reasoning, calls } = assembler
  return {
    role: 'assistant',
    content: calls.length > 0 && content.trim() === '' ? null : prefix + content,
    refusal: null,
    ...(reasoning !== '' && reasoningFields(reasoning)),
    ...(calls.length > 0 && {
      tool_calls: calls.map((call) => ({ id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments } })),
    }),
  }
}

/** The whole answer as one object. */
export async function chatCompletion(run: RequestRun, fields: ChatFields): Promise<object> {
  const prepared = prepareChat(run.model, fields, run.overlong)
  const { tokenizer } = run.model
  const choices = newChoices(fields, prepared)
  let scores: ScoreResult | null = null
  await runChoices(run, fields, prepared, {
    onPiece: (piece) => {
      const choice = choices[piece.choice]
      choice?.assembler.push(piece.text, piece.ids.length)
      choice?.ids.push(...piece.ids)
      if (fields.logprobs) choice?.logprobs.push(...chatLogprobs(tokenizer, piece, fields.topLogprobs))
    },
    onEnd: (end) => {
      const choice = choices[end.choice]
      choice?.assembler.finish()
      if (choice !== undefined) choice.end = end
    },
    onPrompt: (result) => {
      scores = result
    },
  })
  const promptIds = [...prepared.promptTokens]
  const first = choices[0]?.end ?? null
  return {
    id: `chatcmpl-${run.id}`,
    object: 'chat.completion',
    created: Math.floor(Date.now() / 1000),
    model: run.model.name,
    choices: choices.map((choice, index) => ({
      index,
      message: message(choice, fields.echo ? prepared.continued : ''),
      logprobs: fields.logprobs ? { content: choice.logprobs, refusal: null } : null,
      finish_reason: finishReason(fields, choice),
      stop_reason: stopReason(choice.end),
      ...(fields.returnTokenIds && { token_ids: choice.ids }),
    })),
    usage: usage(prepared, choices),
    ...(fields.returnTokenIds && { prompt_token_ids: promptIds }),
    ...(scores !== null && { prompt_logprobs: promptLogprobs(tokenizer, promptIds, scores, fields.promptLogprobs ?? 0) }),
    ...(fields.returnMetrics && first !== null && { metrics: metricsOf(first.stats) }),
  }
}

function deltaOf(part: AnswerPart): object {
  switch (part.kind) {
    case 'content':
      return { content: part.text }
    case 'reasoning':
      return reasoningFields(part.text)
    case 'call':
      return { tool_calls: [{ index: part.index, id: part.id, type: 'function', function: { name: part.name, arguments: '' } }] }
    case 'arguments':
      return { tool_calls: [{ index: part.index, function: { arguments: part.text } }] }
  }
}

/**
 * The answer in chunks. Everything that can be refused is checked before `open` is called, so that a bad request still gets its status. The
 * role chunk goes out with the first output, not before: clients time the first token by it.
 */
export async function streamChatCompletion(run: RequestRun, fields: ChatFields, open: () => EventStream): Promise<void> {
  const prepared = prepareChat(run.model, fields, run.overlong)
  await compileForm(run, prepared)
  const stream = open()
  const started = performance.now()
  const choices = newChoices(fields, prepared)
  const head = { id: `chatcmpl-${run.id}`, object: 'chat.completion.chunk', created: Math.floor(Date.now() / 1000), model: run.model.name }
  const running = choices.map(() => 0)
  const runningUsage = (): object => {
    if (!fields.continuousUsage) return fields.includeUsage ? { usage: null } : {}
    const completion = running.reduce((sum, tokens) => sum + tokens, 0)
    const prompt = prepared.promptTokens.length
    return { usage: { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion } }
  }
  const send = (choice: object): void => stream.send({ ...head, choices: [choice], ...runningUsage() })
  const opened = new Set<number>()
  const sendRole = (index: number): void => {
    if (opened.has(index)) return
    opened.add(index)
    send({
      index,
      delta: { role: 'assistant', content: fields.echo ? prepared.continued : '' },
      logprobs: null,
      finish_reason: null,
      ...(fields.returnTokenIds && index === 0 && { prompt_token_ids: [...prepared.promptTokens] }),
    })
  }
  // Log-probabilities and ids of tokens whose text is still withheld travel with the text that completes them.
  const withheld = new Map<number, { readonly content: object[]; readonly ids: number[] }>()
  const sendParts = (index: number, parts: readonly AnswerPart[]): void => {
    for (const part of parts) {
      const held = withheld.get(index)
      withheld.delete(index)
      send({
        index,
        delta: deltaOf(part),
        logprobs: fields.logprobs ? { content: held?.content ?? [], refusal: null } : null,
        finish_reason: null,
        ...(fields.returnTokenIds && { token_ids: held?.ids ?? [] }),
      })
    }
  }
  const hold = (piece: ChoicePiece): void => {
    const held = withheld.get(piece.choice) ?? { content: [], ids: [] }
    held.ids.push(...piece.ids)
    if (fields.logprobs) held.content.push(...chatLogprobs(run.model.tokenizer, piece, fields.topLogprobs))
    withheld.set(piece.choice, held)
  }
  await runChoices(run, fields, prepared, {
    onProgress: (done, total, cached) => {
      if (!fields.returnProgress) return
      const progress = { total, cache: cached, processed: done, time_ms: Math.round(performance.now() - started) }
      stream.send({ ...head, choices: [], prompt_progress: progress, ...runningUsage() })
    },
    onPiece: (piece) => {
      sendRole(piece.choice)
      running[piece.choice] = (running[piece.choice] ?? 0) + piece.ids.length
      hold(piece)
      sendParts(piece.choice, choices[piece.choice]?.assembler.push(piece.text, piece.ids.length) ?? [])
    },
    onEnd: (end) => {
      const choice = choices[end.choice]
      if (choice === undefined) return
      sendRole(end.choice)
      choice.end = end
      sendParts(end.choice, choice.assembler.finish())
      const held = withheld.get(end.choice)
      send({
        index: end.choice,
        delta: {},
        logprobs: fields.logprobs && held !== undefined && held.content.length > 0 ? { content: held.content, refusal: null } : null,
        finish_reason: finishReason(fields, choice),
        stop_reason: stopReason(end),
        ...(fields.returnTokenIds && { token_ids: held?.ids ?? [] }),
      })
    },
  })
  const first = choices[0]?.end ?? null
  const metrics = fields.returnMetrics && first !== null ? { metrics: metricsOf(first.stats) } : {}
  if (fields.includeUsage) stream.send({ ...head, choices: [], usage: usage(prepared, choices), ...metrics })
  else if (fields.returnMetrics) stream.send({ ...head, choices: [], ...metrics })
}
