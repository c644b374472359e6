/**
 * The OpenAI-compatible server as a part of the studio: started and stopped from its screen, over the models of the library. It shares loaded
 * models with chat and jobs through the one manager, so nothing is loaded twice. What a setup means is in
 * serving-setup.ts, what its screen shows in serving-view.ts. Knows no HTTP (engine/server) and no RPC.
 */
import { randomBytes } from 'node:crypto'
import { LatheError, toErrorShape } from '../contract/index.ts'
import type { ErrorShape, ServerConfig, ServerLogLine, ServerTest, ServerView } from '../contract/index.ts'
import { startServer } from '../server/http-server.ts'
import type { ServingMark } from './serving-mark.ts'
import { checkAddress, listenError } from '../server/listening.ts'
import type { RunningServer } from '../server/http-server.ts'
import { LiveRequests } from '../server/live-requests.ts'
import { createServedCollection } from '../server/served-collection.ts'
import type { ServedCollection } from '../server/served-collection.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import { estimateFit } from './fit-estimate.ts'
import type { FitSubject } from './fit-estimate.ts'
import type { Log, ModelRef, ModelsPort } from './ports.ts'
import { loadOptionsOf, uniqueNames } from './serving-setup.ts'
import type { LoadParts } from './serving-setup.ts'
import { liveRequest, servedInfo } from './serving-view.ts'

export interface ServingParts extends LoadParts {
  readonly models: Pick<ModelsPort, 'acquire' | 'unload' | 'loaded'>
  /** The estimate behind the page's FitBars. */
  readonly plan: FitSubject['plan']
  /** A model of the library by its id or name; null = none. */
  readonly find: (name: string) => Promise<string | null>
  readonly saved: () => ServerConfig | null
  /** Without its key. */
  readonly save: (config: ServerConfig) => void
  readonly key: { read(): string | null; write(key: string): void }
  /** Stands while the server runs. */
  readonly mark: ServingMark
  readonly onChange: () => void
  readonly version: string
  readonly log: Log
}

/** A server that is brought back after a crash is brought back again only if it has run this long: what kills the engine by being loaded must not loop. */
const STEADY_MS = 60_000
/** More than a desktop answers while anybody still waits. */
const MOST_QUEUED = 256
const LOG_LINES = 300
/** 192 bits, as `lathe serve` makes them. */
const KEY_BYTES = 24
/** Enough to know a key by, too little to guess it. */
const HINT_CHARACTERS = 4
const TEST_PROMPT = 'Say hello.'
const TEST_TOKENS = 24
/** The first request may have to load the model. */
const TEST_TIMEOUT_MS = 120_000

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
  /** While it starts: what is being loaded. */
  #opening: Running['models'] = []
  #collection: ServedCollection | null = null
  /** undefined = not read yet; the file is read once. */
  #keptKey: string | null | undefined
  readonly #log: ServerLogLine[] = []
  /** Until a server that was brought back counts as steady. */
  #steady: NodeJS.Timeout | null = null
  /** Starts and stops take turns. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(parts: ServingParts) {
    this.#parts = parts
  }

  view(): ServerView {
    const running = this.#running
    const runtimes = running?.collection.runtimes().map((runtime) => runtime.telemetry()) ?? []
    return {
      state: this.#state,
      url: running?.server.url ?? null,
      startedAt: running?.startedAt ?? null,
      config: this.#config ?? this.#parts.saved(),
      keyHint: this.#key()?.slice(-HINT_CHARACTERS) ?? null,
      models: (running?.models ?? this.#opening).map(({ modelId, name }) => {
        const status = (running?.collection ?? this.#collection)?.status?.().find((one) => one.name === name)
        const telemetry = running?.collection
          .runtimes()
          .find((runtime) => runtime.info.modelId === modelId)
          ?.telemetry()
        return servedInfo(modelId, name, status, telemetry?.speculation)
      }),
      requests: this.#live.list().map(liveRequest),
      totals: { ...this.#live.totals },
      blocksUsed: runtimes.reduce((sum, telemetry) => sum + telemetry.kvBlocksUsed, 0),
      blocksTotal: runtimes.reduce((sum, telemetry) => sum + telemetry.kvBlocksTotal, 0),
      log: [...this.#log],
      error: this.#error,
    }
  }

  /** Throws what loading the first model throws, and `request.invalid` for a port that can't be had. */
  start(config: ServerConfig, signal: AbortSignal, { afterCrash = false }: { readonly afterCrash?: boolean } = {}): Promise<ServerView> {
    return this.#inTurn(async () => {
      if (this.#running !== null) throw new LatheError('request.invalid', 'The server is running already.', 'Stop it first.')
      const abort = new AbortController()
      this.#starting = abort
      const { apiKey: given, ...rest } = config
      const apiKey = given ?? this.#key() ?? randomBytes(KEY_BYTES).toString('base64url')
      const kept: ServerConfig = { ...rest, apiKey: null }
      this.#config = kept
      this.#error = null
      this.#set('starting')
      try {
        if (apiKey !== this.#key()) this.#parts.key.write(apiKey)
        this.#keptKey = apiKey
        this.#running = await this.#open(config, apiKey, AbortSignal.any([signal, abort.signal]))
        this.#parts.save(kept)
        if (afterCrash) this.#steady = setTimeout(() => this.#parts.mark.set(), STEADY_MS).unref()
        else this.#parts.mark.set()
        this.#note('info', `Listening at ${this.#running.server.url}.`)
        this.#set('running')
      } catch (error) {
        this.#error = toErrorShape(error)
        this.#note('error', this.#error.message)
        this.#set('stopped')
        throw error
      } finally {
        this.#starting = null
        this.#opening = []
        this.#collection = null
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
      if (this.#steady !== null) clearTimeout(this.#steady)
      this.#parts.mark.clear()
      await running.server.close()
      await running.collection[Symbol.asyncDispose]()
      this.#note('info', 'Stopped.')
      this.#set('stopped')
      return this.view()
    })
  }

  /** Brings back a server that an engine before this one ran when it died. Never rejects: the view and the log say how it went. */
  async recover(): Promise<void> {
    const { mark } = this.#parts
    const left = mark.read()
    if (left === 'none') return
    mark.clear()
    const config = this.#parts.saved()
    if (config === null || left === 'other-shell') {
      this.#note('warn', 'Lathe ended while the server was running. Start it again when you like.')
      return
    }
    this.#note('warn', 'The engine ended while the server was running: it is started again.')
    await this.start(config, new AbortController().signal, { afterCrash: true }).catch(() => null)
  }

  abort(requestId: string): void {
    // A choice of several is named after its request.
    this.#running?.server.abort(requestId.replace(/#\d+$/, ''))
  }

  /** Only for who asks for it: to show it, or to copy it. */
  key(): string | null {
    return this.#key()
  }

  async load(name: string, signal: AbortSignal): Promise<ServerView> {
    const { collection } = this.#up()
    if ((await collection.load?.(name, signal, () => {})) === null) throw notServed(name)
    return this.view()
  }

  async unload(name: string): Promise<ServerView> {
    const { collection } = this.#up()
    if ((await collection.unload?.(name)) === null) throw notServed(name)
    return this.view()
  }

  /** As a client would ask, over HTTP, so that what is wrong on the way shows. */
  async test(signal: AbortSignal): Promise<ServerTest> {
    const { server, models } = this.#up()
    const started = performance.now()
    const response = await fetch(`${localUrl(server)}/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.#key()}`, 'content-type': 'application/json', 'x-request-id': `test-${Date.now()}` },
      body: JSON.stringify({ model: models[0]?.name, messages: [{ role: 'user', content: TEST_PROMPT }], max_tokens: TEST_TOKENS }),
      signal: AbortSignal.any([signal, AbortSignal.timeout(TEST_TIMEOUT_MS)]),
    })
    const body = (await response.json()) as TestAnswer
    const answer = body.choices?.[0]?.message.content ?? body.error?.message ?? ''
    return { status: response.status, milliseconds: performance.now() - started, answer }
  }

  async close(): Promise<void> {
    await this.stop()
  }

  #up(): Running {
    if (this.#running !== null) return this.#running
    throw new LatheError('request.invalid', 'The server does not run.', 'Start it first.')
  }

  #key(): string | null {
    if (this.#keptKey === undefined) this.#keptKey = this.#parts.key.read()
    return this.#keptKey
  }

  /** A load that a chat has left behind has another cache than the one asked for here; one in use is shared as it is, which the log says. */
  async #makeWay(ref: ModelRef): Promise<void> {
    try {
      await this.#parts.models.unload(ref.modelId)
    } catch (error) {
      if (!(error instanceof LatheError && error.code === 'model.busy')) throw error
      this.#note('warn', `${ref.name} is in use elsewhere; the server shares that load with its context and cache.`)
    }
  }

  async #open(config: ServerConfig, apiKey: string, signal: AbortSignal): Promise<Running> {
    const { models, resolve, plan, find } = this.#parts
    const loadOptions = await loadOptionsOf(config, this.#parts)
    const refs = await Promise.all(config.modelIds.map((modelId) => resolve(modelId)))
    const names = uniqueNames(refs.map((ref) => ref.name))
    const entries = refs.map((ref, index) => ({ ref, name: names[index] ?? ref.modelId, pinned: index === 0 }))
    const log = (level: ServerLogLine['level'], text: string): void => this.#note(level, text)
    const collection = createServedCollection(
      entries,
      {
        acquire: async ({ ref }, wait, onProgress) => {
          const lease = await models.acquire({ ...ref, ...loadOptions, maxQueued: MOST_QUEUED, signal: wait, onProgress })
          this.#parts.onChange()
          return lease
        },
        unload: async ({ ref }) => {
          await models.unload(ref.modelId)
          this.#parts.onChange()
        },
        tokenizer: ({ ref }) => loadTokenizer(ref.folder),
        fit: async (entry, name, wish) => {
          const modelId = entry?.ref.modelId ?? (await find(name))
          const { contextTokens, kvDtype } = loadOptions
          const usual = { contextTokens, kvDtype, concurrency: config.parallel }
          return modelId === null ? null : estimateFit({ modelId, plan, models, usual }, wish)
        },
      },
      {
        idleMs: config.idleUnloadMinutes === null ? null : config.idleUnloadMinutes * 60_000,
        log,
        onChange: () => this.#parts.onChange(),
      },
    )
    this.#opening = entries.map(({ ref, name }) => ({ modelId: ref.modelId, name }))
    this.#collection = collection
    try {
      // Before other models make way for one that could not be reached.
      await checkAddress(config)
      for (const { ref } of entries) await this.#makeWay(ref)
      await collection.start(signal)
      this.#live = new LiveRequests(() => this.#parts.onChange())
      const server = await startServer({
        models: collection,
        apiKey,
        overlong: config.overlong,
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

interface TestAnswer {
  readonly choices?: readonly { readonly message: { readonly content: string | null } }[]
  readonly error?: { readonly message: string }
}

/** Every interface includes this one. */
function localUrl({ url, port }: RunningServer): string {
  return url
    .replace('//0.0.0.0:', '//127.0.0.1:')
    .replace('//[::]:', '//[::1]:')
    .replace(/:\d+\//, `:${port}/`)
}

function notServed(name: string): LatheError {
  return new LatheError('model.not-found', `The server has no model "${name}".`, 'Choose one of those that it lists.')
}
