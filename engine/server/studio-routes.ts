/**
 * Lathe's own routes for managing the server (specs/runtime.md §12): models with what they hold, loading with progress, unloading, and the table of
 * requests, whether a model would fit. Behind the same key and host check as everything else, since they show what is asked and can take models away.
 */
import { z } from 'zod'
import { ApiError } from './api-error.ts'
import { fitBody, fitWishOf, parseFit } from './fit-route.ts'
import { readJson, sendJson } from './http-exchange.ts'
import type { Handler } from './http-exchange.ts'
import type { ModelService } from './model-service.ts'
import { optional, parseBody } from './parse-body.ts'
import { cacheOf } from './served-model.ts'
import type { ServedCache, ServedModelStatus } from './served-model.ts'

const ModelSchema = z.object({ model: z.string().min(1) })
const LoadSchema = z.object({ model: z.string().min(1), stream: optional(z.boolean()) })

export function studioRoutes(service: ModelService): Readonly<Record<string, Handler>> {
  const { models } = service
  const fit = async (given: unknown): Promise<object> => {
    const fields = parseFit(given)
    const name = service.defaultName(fields.model)
    const estimate = await managed(models.fit?.bind(models))(name, fitWishOf(fields))
    if (estimate === null) throw unknown(name)
    return fitBody(name, estimate)
  }
  return {
    'GET /studio/requests': async ({ response }) => sendJson(response, 200, { requests: service.live.list() }),
    'GET /studio/models': async ({ response }) =>
      sendJson(response, 200, { models: managed(models.status?.bind(models))().map(statusBody) }),
    'GET /studio/slots': async ({ response, signal }) => {
      const loaded = models.cards().filter((card) => card.contextLimit !== null)
      const slots = await Promise.all(
        loaded.map(({ name }) =>
          service.use(name, signal, async ({ runtime }) => {
            const { running, waiting, kvBlocksUsed, kvBlocksTotal, tokenBudget, preemptions, speculation } = runtime.telemetry()
            const requests = service.live.list().filter((request) => request.model === name && request.endedAt === null)
            return {
              model: name,
              running,
              waiting,
              max_sequences: runtime.info.maxSequences,
              ...cacheBody(cacheOf(runtime.info)),
              kv_blocks_used: kvBlocksUsed,
              kv_blocks_total: kvBlocksTotal,
              token_budget: tokenBudget,
              preemptions,
              speculation: speculation ?? null,
              requests,
            }
          }),
        ),
      )
      sendJson(response, 200, { slots })
    },
    'GET /studio/fit': async ({ query, response }) => sendJson(response, 200, await fit(Object.fromEntries(query))),
    'POST /studio/fit': async ({ request, response }) => sendJson(response, 200, await fit(await readJson(request))),
    'POST /studio/models/load': async (exchange) => {
      const { model, stream } = parseBody(LoadSchema, await readJson(exchange.request))
      const load = managed(models.load?.bind(models))
      if (!models.cards().some((card) => card.name === model || card.aliases.includes(model))) throw unknown(model)
      const events = stream === true ? service.openStream(exchange, 'none') : null
      const status = await load(model, exchange.signal, (progress) =>
        events?.event('progress', { phase: progress.phase, done_bytes: progress.doneBytes, total_bytes: progress.totalBytes }),
      )
      if (status === null) throw unknown(model)
      if (events === null) return sendJson(exchange.response, 200, statusBody(status))
      events.event('loaded', statusBody(status))
      events.end()
    },
    'POST /studio/models/unload': async ({ request, response }) => {
      const { model } = parseBody(ModelSchema, await readJson(request))
      const status = await managed(models.unload?.bind(models))(model)
      if (status === null) throw unknown(model)
      sendJson(response, 200, statusBody(status))
    },
  }
}

function managed<T>(ability: T | undefined): T {
  if (ability === undefined) throw new ApiError(501, 'The models of this server are managed elsewhere.')
  return ability
}

function unknown(model: string): ApiError {
  return new ApiError(404, `The model \`${model}\` does not exist.`, { param: 'model' })
}

function cacheBody(cache: ServedCache | null): object {
  return { kv_cache_dtype: cache?.kvDtype ?? null, kv_cache_named_by_checkpoint: cache?.namedByCheckpoint ?? null }
}

function statusBody(status: ServedModelStatus): object {
  const { name, aliases, state, pinned, inUse, bytes, contextLimit, cache, loading, unloadAt } = status
  return {
    name,
    aliases,
    state,
    pinned,
    in_use: inUse,
    weight_bytes: bytes?.weights ?? null,
    kv_bytes: bytes?.kv ?? null,
    other_bytes: bytes?.other ?? null,
    max_model_len: contextLimit,
    ...cacheBody(cache),
    loading: loading === null ? null : { phase: loading.phase, done_bytes: loading.doneBytes, total_bytes: loading.totalBytes },
    unload_at: unloadAt === null ? null : new Date(unloadAt).toISOString(),
  }
}
