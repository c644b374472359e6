/** The endpoints of the server, by method and path (specs/runtime.md §12). */
import { z } from 'zod'
import { anthropicRoutes } from './anthropic/routes.ts'
import { ApiError } from './api-error.ts'
import { chatCompletion, streamChatCompletion } from './chat-completions.ts'
import { CHAT_FIELDS, MessageSchema, chatTurn, parseChatRequest } from './chat-request.ts'
import { COMPLETION_FIELDS, parseCompletionRequest } from './completion-request.ts'
import { completion, streamCompletion } from './completions.ts'
import { embeddingsRoute } from './embeddings.ts'
import { readJson, readOptionalJson, sendJson } from './http-exchange.ts'
import type { Handler } from './http-exchange.ts'
import { METRICS_CONTENT_TYPE } from './metrics.ts'
import type { ModelService } from './model-service.ts'
import type { ServedModels } from './served-model.ts'
import { optional, parseBody } from './parse-body.ts'
import { tokenText } from './token-logprobs.ts'
import { responsesRoutes } from './responses/routes.ts'
import { studioRoutes } from './studio-routes.ts'
import { ToolSchema, templateTools } from './tools/tool-request.ts'

const TokenizeSchema = z.object({
  model: optional(z.string()),
  prompt: optional(z.string()),
  messages: optional(z.array(MessageSchema)),
  tools: optional(z.array(ToolSchema)),
  chat_template_kwargs: optional(z.record(z.string(), z.unknown())),
  add_special_tokens: optional(z.boolean()),
  add_generation_prompt: optional(z.boolean()),
  return_token_strs: optional(z.boolean()),
})
const DetokenizeSchema = z.object({ model: optional(z.string()), tokens: z.array(z.number().int().min(0)) })
const AbortSchema = z.object({
  request_ids: optional(z.array(z.string())),
  request_id: optional(z.string()),
  abort_all: optional(z.boolean()),
})

/** Known to OpenAI's clients and not built: told from a mistyped path. */
const NOT_BUILT = ['/v1/images/generations', '/v1/audio/speech', '/v1/audio/transcriptions', '/v1/moderations', '/v1/files']

function modelCards(models: ServedModels) {
  return models.cards().flatMap((card) =>
    [card.name, ...card.aliases].map((id) => ({
      id,
      object: 'model',
      created: card.created,
      owned_by: 'lathe',
      root: card.name,
      parent: null,
      max_model_len: card.contextLimit,
      kv_cache_dtype: card.cache?.kvDtype ?? null,
      kv_cache_named_by_checkpoint: card.cache?.namedByCheckpoint ?? null,
      permission: [],
    })),
  )
}

/** 503 while a model that should be in memory is not; asking starts what brings it back. */
function health(service: ModelService): Handler {
  return async ({ response }) => {
    const fault = service.models.fault?.() ?? null
    if (fault === null) response.writeHead(200).end()
    else sendJson(response, 503, new ApiError(503, `A model has lost its device and is being loaded again: ${fault.message}`).body())
  }
}

export function serverRoutes(
  service: ModelService,
  info: { readonly version: string; readonly load: () => number },
): Readonly<Record<string, Handler>> {
  const { models } = service
  const refused = Object.fromEntries(
    NOT_BUILT.map((path): [string, Handler] => [
      `POST ${path}`,
      async () => {
        throw new ApiError(
          404,
          `${path} is not built in this server. Use /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages or /v1/embeddings.`,
        )
      },
    ]),
  )
  return {
    ...refused,
    ...anthropicRoutes(service),
    ...responsesRoutes(service),
    ...studioRoutes(service),
    'GET /health': health(service),
    'GET /ping': health(service),
    'GET /version': async ({ response }) => sendJson(response, 200, { version: info.version }),
    'GET /load': async ({ response }) => sendJson(response, 200, { server_load: info.load() }),
    'GET /metrics': async ({ response, signal }) => {
      const text = await service.exposition(signal)
      response.writeHead(200, { 'content-type': METRICS_CONTENT_TYPE })
      response.end(text)
    },
    'GET /v1/models': async ({ response }) => sendJson(response, 200, { object: 'list', data: modelCards(models) }),
    'GET /v1/models/*': async ({ response, rest }) => {
      const card = modelCards(models).find(({ id }) => id === rest)
      if (card === undefined) throw new ApiError(404, `The model \`${rest}\` does not exist.`, { param: 'model' })
      sendJson(response, 200, card)
    },
    'POST /v1/chat/completions': async (exchange) => {
      const body = service.withModel(await readJson(exchange.request))
      const fields = parseChatRequest(body)
      service.noteUnknown(body, CHAT_FIELDS)
      await service.run(exchange, fields.model, fields.requestId, 'chat', async (run) => {
        if (!fields.stream) return sendJson(exchange.response, 200, await chatCompletion(run, fields))
        await streamChatCompletion(run, fields, () => service.openStream(exchange))
        exchange.stream?.end()
      })
    },
    'POST /v1/completions': async (exchange) => {
      const body = service.withModel(await readJson(exchange.request))
      const fields = parseCompletionRequest(body)
      service.noteUnknown(body, COMPLETION_FIELDS)
      await service.run(exchange, fields.model, fields.requestId, 'completions', async (run) => {
        if (!fields.stream) return sendJson(exchange.response, 200, await completion(run, fields))
        await streamCompletion(run, fields, () => service.openStream(exchange))
        exchange.stream?.end()
      })
    },
    'POST /v1/embeddings': embeddingsRoute(service),
    'POST /tokenize': async ({ request, response, signal }) => {
      const body = parseBody(TokenizeSchema, await readJson(request))
      await service.use(service.defaultName(body.model), signal, async (model) => {
        const { messages, prompt } = body
        let tokens: Uint32Array
        if (messages !== undefined) {
          const tools = (body.tools ?? []).map((tool) => tool.function)
          const text = model.renderChat({
            messages: messages.map(chatTurn),
            addGenerationPrompt: body.add_generation_prompt ?? true,
            tools: tools.length === 0 ? null : templateTools(tools),
            variables: body.chat_template_kwargs ?? {},
          })
          tokens = model.tokenizer.encode(text, { addSpecialTokens: body.add_special_tokens ?? false })
        } else if (prompt !== undefined) tokens = model.tokenizer.encode(prompt, { addSpecialTokens: body.add_special_tokens ?? true })
        else throw new ApiError(400, 'Send "prompt" or "messages".', { param: 'prompt' })
        const ids = [...tokens]
        const strings = body.return_token_strs === true ? ids.map((id) => tokenText(model.tokenizer, id)) : null
        sendJson(response, 200, { count: ids.length, max_model_len: model.runtime.info.contextLimit, tokens: ids, token_strs: strings })
      })
    },
    'POST /detokenize': async ({ request, response, signal }) => {
      const body = parseBody(DetokenizeSchema, await readJson(request))
      await service.use(service.defaultName(body.model), signal, async (model) => {
        const foreign = body.tokens.find((id) => id >= model.runtime.info.vocabulary)
        if (foreign !== undefined) throw new ApiError(400, `Token ${foreign} is outside the vocabulary.`, { param: 'tokens' })
        sendJson(response, 200, { prompt: model.tokenizer.decode(Uint32Array.from(body.tokens), { skipSpecialTokens: false }) })
      })
    },
    'POST /abort_requests': async ({ request, response }) => {
      const body = parseBody(AbortSchema, await readOptionalJson(request))
      const ids = [...(body.request_ids ?? []), ...(body.request_id === undefined ? [] : [body.request_id])]
      if (ids.length === 0 && body.abort_all !== true)
        throw new ApiError(400, 'Name the requests in "request_ids", or send "abort_all": true.', { param: 'request_ids' })
      sendJson(response, 200, { aborted: service.abort(body.abort_all === true ? null : ids) })
    },
    'POST /reset_prefix_cache': async ({ response, query, signal }) => {
      const asked = query.get('model')
      const names = asked === null ? models.cards().flatMap((card) => (card.contextLimit === null ? [] : [card.name])) : [asked]
      const results = await Promise.all(
        names.map((name) =>
          service.use(name, signal, async ({ name: model, runtime }) => {
            if (runtime.resetPrefixCache === undefined) throw new ApiError(501, 'This runtime has no way to drop its prefix cache.')
            return { model, reset: await runtime.resetPrefixCache() }
          }),
        ),
      )
      sendJson(response, results.every(({ reset }) => reset) ? 200 : 409, { results })
    },
    'POST /sleep': async ({ response, query }) => {
      if (models.sleep === undefined) throw new ApiError(501, 'The models of this server can not be put to sleep.')
      const level = query.get('level') ?? '1'
      if (level !== '1' && level !== '2') throw new ApiError(400, '"level" is 1 or 2.', { param: 'level' })
      // Weights are read from their files again, which is what both levels come to here.
      await models.sleep()
      sendJson(response, 200, { is_sleeping: true })
    },
    'POST /wake_up': async ({ response, signal }) => {
      if (models.wake === undefined) throw new ApiError(501, 'The models of this server can not be put to sleep.')
      await models.wake(signal)
      sendJson(response, 200, { is_sleeping: false })
    },
    'GET /is_sleeping': async ({ response }) => sendJson(response, 200, { is_sleeping: models.asleep?.() ?? false }),
  }
}
