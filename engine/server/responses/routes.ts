/**
 * POST /v1/responses (OpenAI's Responses API), streamed and whole, over the same run as the chat endpoint. Stateless: `store` is always false, and
 * what is asked about an earlier response is refused by name.
 */
import { ApiError, toApiError } from '../api-error.ts'
import { AnswerAssembler, compileForm, prepareChat } from '../chat-run.ts'
import type { PreparedChat } from '../chat-run.ts'
import { runChoices, usageOf } from '../completion-run.ts'
import type { ChoiceEnd, RequestRun } from '../completion-run.ts'
import { readJson, sendJson } from '../http-exchange.ts'
import type { Handler } from '../http-exchange.ts'
import type { ModelService } from '../model-service.ts'
import type { EventStream } from '../sse.ts'
import { OutputItems } from './output-items.ts'
import type { EmitEvent, OutputItem } from './output-items.ts'
import { RESPONSES_FIELDS, inResponsesTerms, ownTerms, parseResponsesRequest } from './responses-request.ts'
import type { AskedResponse, ResponsesRequest } from './responses-request.ts'

export function responsesRoutes(service: ModelService): Readonly<Record<string, Handler>> {
  return {
    'POST /v1/responses': async (exchange) => {
      const body = service.withModel(await readJson(exchange.request))
      const request = parseResponsesRequest(body)
      service.noteUnknown(body, RESPONSES_FIELDS)
      const { fields } = request
      await service.run(exchange, fields.model, fields.requestId, 'responses', async (run) => {
        const answer = new ResponseRun(run, request)
        if (!fields.stream) return sendJson(exchange.response, 200, await answer.whole())
        await answer.stream(() => service.openStream(exchange, 'none'))
      })
    },
    'POST /v1/responses/input_tokens': async ({ request, response, signal }) => {
      const { fields } = parseResponsesRequest(service.withModel(await readJson(request)))
      await service.use(fields.model, signal, async (model) => {
        const { promptTokens } = inResponsesTerms(() => prepareChat(model, fields))
        sendJson(response, 200, { object: 'response.input_tokens', input_tokens: promptTokens.length })
      })
    },
    'GET /v1/responses/*': notKept,
    'DELETE /v1/responses/*': notKept,
  }
}

const notKept: Handler = async ({ rest }) => {
  throw new ApiError(404, `There is no response ${rest}: this server keeps none.`)
}

interface Outcome {
  readonly status: 'in_progress' | 'completed' | 'incomplete' | 'failed'
  readonly output: readonly OutputItem[]
  readonly usage: object | null
  readonly error: { readonly code: string; readonly message: string } | null
}

const BEGUN: Outcome = { status: 'in_progress', output: [], usage: null, error: null }

class ResponseRun {
  readonly #run: RequestRun
  readonly #asked: AskedResponse
  readonly #fields: ResponsesRequest['fields']
  readonly #prepared: PreparedChat
  readonly #id: string
  readonly #createdAt = Math.floor(Date.now() / 1000)

  /** Throws what can be refused before anything is sent. */
  constructor(run: RequestRun, { fields, asked }: ResponsesRequest) {
    this.#run = run
    this.#fields = fields
    this.#asked = asked
    this.#prepared = inResponsesTerms(() => prepareChat(run.model, fields, run.overlong))
    this.#id = `resp_${run.id}`
  }

  async whole(): Promise<object> {
    return this.#response(await this.#answer(() => {}))
  }

  async stream(open: () => EventStream): Promise<void> {
    await compileForm(this.#run, this.#prepared).catch((error: unknown) => {
      throw ownTerms(error)
    })
    const stream = open()
    let number = 0
    const emit: EmitEvent = (name, payload) => stream.event(name, { sequence_number: number++, ...payload })
    emit('response.created', { response: this.#response(BEGUN) })
    emit('response.in_progress', { response: this.#response(BEGUN) })
    try {
      const outcome = await this.#answer(emit)
      emit(`response.${outcome.status}`, { response: this.#response(outcome) })
    } catch (error) {
      const { status, message } = toApiError(error)
      const code = status === 429 ? 'rate_limit_exceeded' : status < 500 ? 'invalid_prompt' : 'server_error'
      emit('response.failed', { response: this.#response({ ...BEGUN, status: 'failed', error: { code, message } }) })
      // The stream has told its reader; the log hears of it from whoever catches this.
      throw error
    } finally {
      stream.end()
    }
  }

  async #answer(emit: EmitEvent): Promise<Outcome> {
    const assembler = new AnswerAssembler(this.#prepared, this.#fields)
    const items = new OutputItems(this.#run.id, emit)
    let end: ChoiceEnd | null = null
    await runChoices(this.#run, this.#fields, this.#prepared, {
      onPiece: (piece) => {
        for (const part of assembler.push(piece.text, piece.ids.length)) items.write(part)
      },
      onEnd: (ended) => {
        end = ended
      },
    })
    for (const part of assembler.finish()) items.write(part)
    const reason = (end as ChoiceEnd | null)?.reason ?? 'aborted'
    items.finish(reason === 'stop' ? 'completed' : 'incomplete')
    const usage = this.#usage(end, assembler.reasoningTokens)
    if (reason === 'aborted')
      return { status: 'failed', output: items.items, usage, error: { code: 'server_error', message: 'The request was aborted.' } }
    return { status: reason === 'stop' ? 'completed' : 'incomplete', output: items.items, usage, error: null }
  }

  #usage(end: ChoiceEnd | null, reasoningTokens: number): object {
    const usage = usageOf(this.#prepared.promptTokens.length, end === null ? [] : [end])
    return {
      input_tokens: usage.prompt_tokens,
      input_tokens_details: { cached_tokens: usage.prompt_tokens_details.cached_tokens },
      output_tokens: usage.completion_tokens,
      output_tokens_details: { reasoning_tokens: reasoningTokens },
      total_tokens: usage.total_tokens,
    }
  }

  #response({ status, output, usage, error }: Outcome): object {
    const { model } = this.#run
    const { defaultSampling } = model.runtime.info
    const asked = this.#asked
    return {
      id: this.#id,
      object: 'response',
      created_at: this.#createdAt,
      completed_at: status === 'completed' ? Math.floor(Date.now() / 1000) : null,
      status,
      background: false,
      error,
      incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
      instructions: asked.instructions,
      max_output_tokens: asked.maxOutputTokens,
      metadata: asked.metadata,
      model: model.name,
      output,
      parallel_tool_calls: asked.parallelToolCalls,
      previous_response_id: null,
      reasoning: asked.reasoning,
      store: false,
      temperature: asked.temperature ?? defaultSampling.temperature,
      text: { format: asked.format },
      tool_choice: asked.toolChoice,
      tools: asked.tools,
      top_p: asked.topP ?? defaultSampling.topP,
      truncation: 'disabled',
      usage,
    }
  }
}
