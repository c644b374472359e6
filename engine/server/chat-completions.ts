/** POST /v1/chat/completions, streamed and whole (specs/runtime.md §12, §13, §15). */
import { randomUUID } from 'node:crypto'
import { finishReasonOf, resolveMaxTokens, runChoices, usageOf } from './completion-run.ts'
import type { ChoiceEnd, ChoicePiece } from './completion-run.ts'
import type { ChatFields } from './request-schema.ts'
import type { ServedModel, ServedTokenizer } from './served-model.ts'
import type { ServingMetrics } from './serving-metrics.ts'
import type { EventStream } from './sse.ts'

interface ChatRun {
  readonly model: ServedModel
  readonly metrics: ServingMetrics
  readonly signal: AbortSignal
}

function logprobContent(tokenizer: ServedTokenizer, piece: ChoicePiece): object[] {
  return piece.ids.map((id, index) => {
    const bytes = tokenizer.tokenBytes(id)
    return {
      token: new TextDecoder().decode(bytes),
      logprob: Math.max(-9999, piece.logprobs[index] ?? -9999),
      bytes: [...bytes],
      top_logprobs: [],
    }
  })
}

function prepare(run: ChatRun, fields: ChatFields): { readonly promptTokens: Uint32Array; readonly maxTokens: number } {
  // The template has already written every special token, BOS included.
  const text = run.model.renderChat(fields.messages, { addGenerationPrompt: fields.addGenerationPrompt })
  const promptTokens = run.model.tokenizer.encode(text, { addSpecialTokens: false })
  return { promptTokens, maxTokens: resolveMaxTokens(promptTokens.length, fields.maxTokens, run.model.runtime.info.contextLimit) }
}

function stopReason(end: ChoiceEnd): string | number | null {
  return end.stopString ?? end.stopTokenId
}

/** The whole answer as one object. */
export async function chatCompletion(run: ChatRun, fields: ChatFields): Promise<object> {
  const { promptTokens, maxTokens } = prepare(run, fields)
  const texts = new Map<number, string>()
  const logprobs = new Map<number, object[]>()
  const ends: ChoiceEnd[] = []
  await runChoices(
    run.model,
    promptTokens,
    fields,
    { maxTokens, firstChoice: 0, signal: run.signal, metrics: run.metrics },
    {
      onPiece: (piece) => {
        texts.set(piece.choice, (texts.get(piece.choice) ?? '') + piece.text)
        if (fields.logprobs)
          logprobs.set(piece.choice, [...(logprobs.get(piece.choice) ?? []), ...logprobContent(run.model.tokenizer, piece)])
      },
      onEnd: (end) => ends.push(end),
    },
  )
  ends.sort((a, b) => a.choice - b.choice)
  return {
    id: `chatcmpl-${randomUUID()}`,
    object: 'chat.completion',
    created: Math.floor(Date.now() / 1000),
    model: run.model.name,
    choices: ends.map((end) => ({
      index: end.choice,
      message: { role: 'assistant', content: texts.get(end.choice) ?? '', refusal: null },
      logprobs: fields.logprobs ? { content: logprobs.get(end.choice) ?? [], refusal: null } : null,
      finish_reason: finishReasonOf(end.reason),
      stop_reason: stopReason(end),
    })),
    usage: usageOf(promptTokens.length, ends),
  }
}

/**
 * The answer in chunks. Everything that can be refused is checked before `open` is called, so that a bad request still gets its status. The
 * role chunk goes out with the first output, not before: clients time the first token by it.
 */
export async function streamChatCompletion(run: ChatRun, fields: ChatFields, open: () => EventStream): Promise<void> {
  const { promptTokens, maxTokens } = prepare(run, fields)
  const stream = open()
  const head = {
    id: `chatcmpl-${randomUUID()}`,
    object: 'chat.completion.chunk',
    created: Math.floor(Date.now() / 1000),
    model: run.model.name,
  }
  const usageField = fields.includeUsage ? { usage: null } : {}
  const opened = new Set<number>()
  const ends: ChoiceEnd[] = []
  const send = (choice: object): void => stream.send({ ...head, choices: [choice], ...usageField })
  const sendRole = (index: number): void => {
    if (opened.has(index)) return
    opened.add(index)
    send({ index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null })
  }
  // Log-probabilities of tokens whose text is still withheld travel with the text that completes them.
  const withheld = new Map<number, object[]>()
  await runChoices(
    run.model,
    promptTokens,
    fields,
    { maxTokens, firstChoice: 0, signal: run.signal, metrics: run.metrics },
    {
      onPiece: (piece) => {
        sendRole(piece.choice)
        const content = fields.logprobs ? [...(withheld.get(piece.choice) ?? []), ...logprobContent(run.model.tokenizer, piece)] : []
        if (piece.text === '') {
          withheld.set(piece.choice, content)
          return
        }
        withheld.delete(piece.choice)
        send({
          index: piece.choice,
          delta: { content: piece.text },
          logprobs: fields.logprobs ? { content, refusal: null } : null,
          finish_reason: null,
        })
      },
      onEnd: (end) => {
        sendRole(end.choice)
        ends.push(end)
        send({ index: end.choice, delta: {}, logprobs: null, finish_reason: finishReasonOf(end.reason), stop_reason: stopReason(end) })
      },
    },
  )
  if (fields.includeUsage) stream.send({ ...head, choices: [], usage: usageOf(promptTokens.length, ends) })
}
