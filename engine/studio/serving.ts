/**
 * The OpenAI-compatible server as a part of the studio: started and stopped from its screen, over the models of the library. It shares loaded
 * models with chat and jobs through the one manager, so nothing is loaded twice. Knows no HTTP (engine/server) and no RPC.
 */
import { LatheError, toErrorShape } from '../contract/index.ts'
import type { ErrorShape, LiveServerRequest, ServerConfig, ServerLogLine, ServerView } from '../contract/index.ts'
import type { KvSetting } from '../gpu/kv-format.ts'
import { DEFAULT_BLOCK_SIZE } from '../model/memory.ts'
import { startServer } from '../server/http-server.ts'
import type { RunningServer } from '../server/http-server.ts'
import { LiveRequests } from '../server/live-requests.ts'
import type { LiveRequest } from '../server/live-requests.ts'
import { createServedCollection } from '../server/served-collection.ts'
import type { ServedCollection } from '../server/served-collection.ts'
import { servedName } from '../server/served-model.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import type { Log, ModelRef, ModelsPort } from './ports.ts'

export interface ServingParts {
  readonly models: Pick<ModelsPort, 'acquire' | 'unload'>
  /** Throws what keeps a model from running. */
  readonly resolve: (modelId: string) => Promise<ModelRef>
  readonly loadSettings: () => { readonly contextTokens: number; readonly kvDtype: KvSetting }
  readonly saved: () => ServerConfig | null
  readonly save: (config: ServerConfig) => void
  readonly onChange: () => void
  readonly version: string
  readonly log: Log
}

/** More than a desktop answers while anybody still waits. */
const MOST_QUEUED = 256
const LOG_LINES = 300

interface Running {
  readonly server: RunningServer
  readonly collection: ServedCollection
  readonly models: readonly { readonly modelId: string; readonly name: string }[]
  readonly startedAt: string
}

export class Serving {
  readonly #parts: ServingParts
  #state: ServerView['state'] = 'stopped'
  #running: Running | null = null
  #starting: AbortController | null = null
  #config: ServerConfig | null = null
  #error: ErrorShape | null = null
  #live = new LiveRequests()
  readonly #log: ServerLogLine[] = []
  /** Starts and stops take turns. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(parts: ServingParts) {
    this.#parts = parts
  }

  view(): ServerView {
    const running = this.#running
    const runtimes = running?.collection.runtimes().map((runtime) => runtime.telemetry()) ?? []
    const cards = running?.collection.cards() ?? []
    return {
      state: this.#state,
      url: running?.server.url ?? null,
      startedAt: running?.startedAt ?? null,
      config: this.#config ?? this.#parts.saved(),
      models: (running?.models ?? []).map(({ modelId, name }) => {
        const contextLimit = cards.find((card) => card.name === name)?.contextLimit ?? null
        return { modelId, name, loaded: contextLimit !== null, contextLimit }
      }),
      requests: this.#live.list().map(liveRequest),
      blocksUsed: runtimes.reduce((sum, telemetry) => sum + telemetry.kvBlocksUsed, 0),
      blocksTotal: runtimes.reduce((sum, telemetry) => sum + telemetry.kvBlocksTotal, 0),
      log: [...this.#log],
      error: this.#error,
    }
  }

  /** Throws what loading the first model throws, and `request.invalid` for a port that can't be had. */
  start(config: ServerConfig, signal: AbortSignal): Promise<ServerView> {
    return this.#inTurn(async () => {
      if (this.#running !== null) throw new LatheError('request.invalid', 'The server is running already.', 'Stop it first.')
      const abort = new AbortController()
      this.#starting = abort
      this.#config = config
      this.#error = null
      this.#set('starting')
      try {
        this.#running = await this.#open(config, AbortSignal.any([signal, abort.signal]))
        this.#parts.save(config)
        this.#note('info', `Listening at ${this.#running.server.url}.`)
        this.#set('running')
      } catch (error) {
        this.#error = toErrorShape(error)
        this.#note('error', this.#error.message)
        this.#set('stopped')
        throw error
      } finally {
        this.#starting = null
      }
      return this.view()
    })
  }

  /** Also gives up a start that is under way. */
  stop(): Promise<ServerView> {
    this.#starting?.abort(new LatheError('runtime.aborted', 'The server was stopped while it started.', 'Start it again when you like.'))
    return this.#inTurn(async () => {
      const running = this.#running
      if (running === null) return this.view()
      this.#set('stopping')
      this.#running = null
      await running.server.close()
      await running.collection[Symbol.asyncDispose]()
      this.#note('info', 'Stopped.')
      this.#set('stopped')
      return this.view()
    })
  }

  abort(requestId: string): void {
    // A choice of several is named after its request.
    this.#running?.server.abort(requestId.replace(/#\d+$/, ''))
  }

  async close(): Promise<void> {
    await this.stop()
  }

  async #open(config: ServerConfig, signal: AbortSignal): Promise<Running> {
    const { models, resolve, loadSettings } = this.#parts
    const refs = await Promise.all(config.modelIds.map((modelId) => resolve(modelId)))
    const names = uniqueNames(refs.map((ref) => ref.name))
    const entries = refs.map((ref, index) => ({ ref, name: names[index] ?? ref.modelId, pinned: index === 0 }))
    const log = (level: ServerLogLine['level'], text: string): void => this.#note(level, text)
    const collection = createServedCollection(
      entries,
      {
        acquire: async ({ ref }, wait) => {
          const lease = await models.acquire({ ...ref, ...loadSettings(), maxQueued: MOST_QUEUED, signal: wait })
          this.#parts.onChange()
          return lease
        },
        unload: async ({ ref }) => {
          await models.unload(ref.modelId)
          this.#parts.onChange()
        },
        tokenizer: ({ ref }) => loadTokenizer(ref.folder),
      },
      { idleMs: config.idleUnloadMinutes === null ? null : config.idleUnloadMinutes * 60_000, log },
    )
    try {
      await collection.start(signal)
      this.#live = new LiveRequests(() => this.#parts.onChange())
      const server = await startServer({
        models: collection,
        apiKey: config.apiKey,
        port: config.port,
        hostname: config.host,
        allowedOrigins: config.corsOrigins,
        version: this.#parts.version,
        log,
        live: this.#live,
      }).catch((error: unknown) => {
        throw listenError(error, config)
      })
      const listed = entries.map(({ ref, name }) => ({ modelId: ref.modelId, name }))
      return { server, collection, models: listed, startedAt: new Date().toISOString() }
    } catch (error) {
      await collection[Symbol.asyncDispose]()
      throw error
    }
  }

  #set(state: ServerView['state']): void {
    this.#state = state
    this.#parts.onChange()
  }

  #note(level: ServerLogLine['level'], text: string): void {
    this.#log.push({ at: new Date().toISOString(), level, text })
    if (this.#log.length > LOG_LINES) this.#log.shift()
    this.#parts.log(level, `server: ${text}`)
    this.#parts.onChange()
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => null)
    return turn
  }
}

function liveRequest(request: LiveRequest): LiveServerRequest {
  const { finishReason, startedAt, endedAt, promptTokens, prefilledTokens, generatedTokens, cacheMiss, ...rest } = request
  const held = endedAt === null ? Math.min(promptTokens, prefilledTokens) + generatedTokens : 0
  return {
    ...rest,
    promptTokens,
    prefilledTokens,
    generatedTokens,
    startedAt: new Date(startedAt).toISOString(),
    endedAt: endedAt === null ? null : new Date(endedAt).toISOString(),
    blocks: Math.ceil(held / DEFAULT_BLOCK_SIZE),
    reason: finishReason,
    cacheMiss: cacheMiss === null ? null : { ...cacheMiss },
  }
}

/** Names as clients use them; two models of one name are told apart by a number. */
function uniqueNames(names: readonly string[]): readonly string[] {
  const taken = new Set<string>()
  return names.map((name) => {
    const base = servedName(name.replaceAll('·', '-').replaceAll(/-?\s*-\s*-?/g, '-')) || 'model'
    let unique = base
    for (let number = 2; taken.has(unique); number++) unique = `${base}-${number}`
    taken.add(unique)
    return unique
  })
}

function listenError(error: unknown, { host, port }: ServerConfig): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : null
  if (code === 'EADDRINUSE')
    return new LatheError('request.invalid', `Port ${port} is in use.`, 'Choose another port, or 0 for any free one.', { cause: error })
  if (code === 'EACCES')
    return new LatheError('request.invalid', `Port ${port} may not be opened.`, 'Use a port above 1023.', { cause: error })
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return new LatheError('request.invalid', `${host} is no address of this machine.`, 'Use 127.0.0.1, or 0.0.0.0 for every interface.', {
      cause: error,
    })
  return error
}
