/** Models as the routes use them: held while a request runs, with their metrics, live requests and the requests that can be aborted by id. */
import { randomUUID } from 'node:crypto'
import { ApiError } from './api-error.ts'
import type { Exchange } from './http-exchange.ts'
import type { Overlong, RequestRun } from './completion-run.ts'
import type { LiveRequests } from './live-requests.ts'
import { exposition } from './metrics.ts'
import type { ServedModel, ServedModels } from './served-model.ts'
import { ServingMetrics } from './serving-metrics.ts'
import { EventStream } from './sse.ts'

/** A client may send any number of names; a log does not have to hold them all. */
const MOST_NOTED = 100

export class ModelService {
  readonly models: ServedModels
  readonly live: LiveRequests
  readonly #log: (level: 'info' | 'warn' | 'error', text: string) => void
  readonly #metrics = new Map<string, ServingMetrics>()
  readonly #running = new Map<string, Set<() => void>>()

  readonly #overlong: Overlong
  /** Unknown fields that have been spoken of. */
  readonly #noted = new Set<string>()

  constructor(
    models: ServedModels,
    live: LiveRequests,
    log: (level: 'info' | 'warn' | 'error', text: string) => void,
    overlong: Overlong = 'reject',
  ) {
    this.#overlong = overlong
    this.models = models
    this.live = live
    this.#log = log
  }

  /** Throws ApiError 404 for a name that is not served. */
  async use<T>(name: string, signal: AbortSignal, body: (model: ServedModel) => Promise<T>): Promise<T> {
    const lease = await this.models.acquire(name, signal)
    if (lease === null) throw new ApiError(404, `The model \`${name}\` does not exist.`, { param: 'model' })
    try {
      return await body(lease.model)
    } finally {
      lease.release()
    }
  }

  /** A generation: counted, shown, and abortable by its id. */
  async run<T>(
    exchange: Exchange,
    name: string,
    requestId: string | undefined,
    endpoint: string,
    body: (run: RequestRun) => Promise<T>,
  ): Promise<T> {
    const id = requestId ?? exchange.requestId
    // A client that named its request in the body alone looks for that name.
    const { request, response } = exchange
    if (request.headers['x-request-id'] === undefined && !response.headersSent) response.setHeader('x-request-id', id)
    const aborts = this.#running.get(id) ?? new Set()
    this.#running.set(id, aborts.add(exchange.abort))
    try {
      return await this.use(name, exchange.signal, (model) =>
        body({
          model,
          metrics: this.metricsOf(model),
          tracker: this.live.tracker(endpoint, model.name),
          signal: exchange.signal,
          overlong: this.#overlong,
          id,
          group: randomUUID(),
        }),
      )
    } finally {
      aborts.delete(exchange.abort)
      if (aborts.size === 0) this.#running.delete(id)
    }
  }

  /** Ids that were running. Without ids: all. */
  abort(ids: readonly string[] | null): readonly string[] {
    const found = [...this.#running.keys()].filter((id) => ids === null || ids.includes(id))
    for (const id of found) for (const abort of this.#running.get(id) ?? []) abort()
    return found
  }

  /** Says once per name that a field was ignored: a typing error in a parameter is otherwise found by nobody. Names only, never values. */
  noteUnknown(body: unknown, known: ReadonlySet<string>): void {
    if (typeof body !== 'object' || body === null) return
    for (const name of Object.keys(body)) {
      if (known.has(name) || this.#noted.has(name) || this.#noted.size >= MOST_NOTED || !/^\w{1,64}$/.test(name)) continue
      this.#noted.add(name)
      this.#log('info', `The field "${name}" of a request is not known here and was ignored.`)
    }
  }

  /** For the routes whose `model` is optional: the one named, or the first. */
  defaultName(asked: string | null | undefined): string {
    const name = asked ?? this.models.cards()[0]?.name
    if (name === undefined) throw new ApiError(404, 'No model is being served.')
    return name
  }

  /**
   * The body of a generation with its model named. vLLM's is optional: left out it can only mean the one that is served. Of several none is meant
   * more than another, so that is an ApiError 400 with their names.
   */
  withModel(body: unknown): unknown {
    if (typeof body !== 'object' || body === null || Array.isArray(body)) return body
    const asked: unknown = 'model' in body ? body.model : null
    if (asked !== null && asked !== undefined) return body
    const names = this.models.cards().map(({ name }) => name)
    if (names.length > 1) throw new ApiError(400, `Name a "model": this server has ${names.join(', ')}.`, { param: 'model' })
    return { ...body, model: this.defaultName(null) }
  }

  metricsOf(model: ServedModel): ServingMetrics {
    const known = this.#metrics.get(model.name)
    if (known !== undefined) {
      known.attach(model.runtime)
      return known
    }
    const metrics = new ServingMetrics(model.name, model.runtime, () => this.models.asleep?.() ?? false)
    this.#metrics.set(model.name, metrics)
    return metrics
  }

  /** The scrape. Models that are loaded and were not asked anything yet have their series too, all zero. */
  async exposition(signal: AbortSignal): Promise<string> {
    for (const { name, contextLimit } of this.models.cards())
      if (contextLimit !== null && !this.#metrics.has(name)) await this.use(name, signal, async (model) => this.metricsOf(model))
    return exposition([...this.#metrics.values()].map((metrics) => metrics.registry))
  }

  openStream(exchange: Exchange, terminator: 'done' | 'none' = 'done'): EventStream {
    const onDrop = (): void => {
      this.#log('warn', 'A client read its stream too slowly and was dropped.')
      exchange.abort()
    }
    const stream = new EventStream(exchange.response, onDrop, terminator)
    exchange.stream = stream
    return stream
  }
}
