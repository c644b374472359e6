/** POST /v1/messages and /v1/messages/count_tokens in Anthropic's shapes, streamed and whole, over the same run as the OpenAI endpoint. */
import type { ChatFields } from '../chat-request.ts'
import { AnswerAssembler, compileForm, prepareChat } from '../chat-run.ts'
import type { AnswerPart, PreparedChat } from '../chat-run.ts'
import { runChoices, usageOf } from '../completion-run.ts'
import type { ChoiceEnd, RequestRun } from '../completion-run.ts'
import { readJson, sendJson } from '../http-exchange.ts'
import type { Handler } from '../http-exchange.ts'
import type { ModelService } from '../model-service.ts'
import type { EventStream } from '../sse.ts'
import { parseCountRequest, parseMessagesRequest } from './messages-request.ts'

export function anthropicRoutes(service: ModelService): Readonly<Record<string, Handler>> {
  return {
    'POST /v1/messages': async (exchange) => {
      const fields = parseMessagesRequest(await readJson(exchange.request))
      await service.run(exchange, fields.model, undefined, 'messages', async (run) => {
        if (!fields.stream) return sendJson(exchange.response, 200, await message(run, fields))
        await streamMessage(run, fields, () => service.openStream(exchange, 'none'))
        exchange.stream?.end()
      })
    },
    'POST /v1/messages/count_tokens': async ({ request, response, signal }) => {
      const fields = parseCountRequest(await readJson(request))
      await service.use(fields.model, signal, async (model) => {
        sendJson(response, 200, { input_tokens: prepareChat(model, fields).promptTokens.length })
      })
    },
  }
}

interface AnthropicUsage {
  readonly input_tokens: number
  readonly output_tokens: number
  readonly cache_read_input_tokens: number
  readonly cache_creation_input_tokens: number
}

/** Anthropic counts what was read from the cache apart from the rest. */
function anthropicUsage(prepared: PreparedChat, end: ChoiceEnd | null): AnthropicUsage {
  const usage = usageOf(prepared.promptTokens.length, end === null ? [] : [end])
  const cached = usage.prompt_tokens_details.cached_tokens
  return {
    input_tokens: usage.prompt_tokens - cached,
    output_tokens: usage.completion_tokens,
    cache_read_input_tokens: cached,
    cache_creation_input_tokens: 0,
  }
}

function stopFields(assembler: AnswerAssembler, end: ChoiceEnd | null): { stop_reason: string; stop_sequence: string | null } {
  const stopped = end?.stopString ?? null
  if (stopped !== null) return { stop_reason: 'stop_sequence', stop_sequence: stopped }
  if (end?.reason === 'length') return { stop_reason: 'max_tokens', stop_sequence: null }
  if (end?.reason === 'context') return { stop_reason: 'model_context_window_exceeded', stop_sequence: null }
  return { stop_reason: assembler.calls.length > 0 ? 'tool_use' : 'end_turn', stop_sequence: null }
}

/** What a call's arguments mean; those of an answer that was cut off may not be whole. */
function inputOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return {}
  }
}

async function message(run: RequestRun, fields: ChatFields): Promise<object> {
  const prepared = prepareChat(run.model, fields, run.overlong)
  const assembler = new AnswerAssembler(prepared, fields)
  let end: ChoiceEnd | null = null
  await runChoices(run, fields, prepared, {
    onPiece: (piece) => void assembler.push(piece.text, piece.ids.length),
    onEnd: (ended) => {
      end = ended
    },
  })
  assembler.finish()
  const { content, reasoning, calls } = assembler
  return {
    id: `msg_${run.id}`,
    type: 'message',
    role: 'assistant',
    model: run.model.name,
    content: [
      ...(reasoning === '' ? [] : [{ type: 'thinking', thinking: reasoning, signature: '' }]),
      ...(content === '' && calls.length > 0 ? [] : [{ type: 'text', text: content }]),
      ...calls.map((call) => ({ type: 'tool_use', id: call.id, name: call.name, input: inputOf(call.arguments) })),
    ],
    ...stopFields(assembler, end),
    usage: anthropicUsage(prepared, end),
  }
}

/** Blocks open and close one after the other; each has its number. */
class BlockWriter {
  readonly #stream: EventStream
  #open: string | null = null
  #index = -1

  constructor(stream: EventStream) {
    this.#stream = stream
  }

  get any(): boolean {
    return this.#index >= 0
  }

  write(part: AnswerPart): void {
    switch (part.kind) {
      case 'content':
        this.begin('text', { type: 'text', text: '' })
        return this.#delta({ type: 'text_delta', text: part.text })
      case 'reasoning':
        this.begin('thinking', { type: 'thinking', thinking: '', signature: '' })
        return this.#delta({ type: 'thinking_delta', thinking: part.text })
      case 'call':
        return this.begin(`call ${part.index}`, { type: 'tool_use', id: part.id ?? '', name: part.name, input: {} })
      case 'arguments':
        return this.#delta({ type: 'input_json_delta', partial_json: part.text })
    }
  }

  begin(name: string, block: object): void {
    if (this.#open === name) return
    this.close()
    this.#open = name
    this.#index++
    this.#stream.event('content_block_start', { index: this.#index, content_block: block })
  }

  close(): void {
    if (this.#open === null) return
    this.#open = null
    this.#stream.event('content_block_stop', { index: this.#index })
  }

  #delta(delta: object): void {
    this.#stream.event('content_block_delta', { index: this.#index, delta })
  }
}

async function streamMessage(run: RequestRun, fields: ChatFields, open: () => EventStream): Promise<void> {
  const prepared = prepareChat(run.model, fields, run.overlong)
  await compileForm(run, prepared)
  const stream = open()
  const assembler = new AnswerAssembler(prepared, fields)
  const blocks = new BlockWriter(stream)
  let end: ChoiceEnd | null = null
  stream.event('message_start', {
    message: {
      id: `msg_${run.id}`,
      type: 'message',
      role: 'assistant',
      model: run.model.name,
      content: [],
      stop_reason: null,
      stop_sequence: null,
      usage: anthropicUsage(prepared, null),
    },
  })
  const write = (parts: readonly AnswerPart[]): void => {
    for (const part of parts) blocks.write(part)
  }
  await runChoices(run, fields, prepared, {
    onPiece: (piece) => write(assembler.push(piece.text, piece.ids.length)),
    onEnd: (ended) => {
      end = ended
    },
  })
  write(assembler.finish())
  if (!blocks.any) blocks.begin('text', { type: 'text', text: '' })
  blocks.close()
  stream.event('message_delta', { delta: stopFields(assembler, end), usage: anthropicUsage(prepared, end) })
  stream.event('message_stop', {})
}
