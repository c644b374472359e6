/**
 * The contract implemented in memory, for tests and for looking at screens: a library, jobs that advance with a clock of its own, one event stream.
 * Typed against the contract, and every input and output is validated by it. It computes nothing: its figures are fixtures.
 */
import { createRouterClient, implement } from '@orpc/server'
import {
  contract,
  DEFAULT_SETTINGS,
  LatheError,
  type AnswerStats,
  type ChatMessage,
  type CacheCostEvent,
  type ChatThread,
  type EvaluationOptions,
  type Hardware,
  type Job,
  type JobLogLine,
  type JobPhase,
  type ModelSummary,
  type QualityWatch,
  type Preset,
  type ResultSet,
  type ServerView,
  type Settings,
  type StudioEvent,
} from '../../engine/contract/index.ts'
import { CATALOG, CHECKS, PLAN } from './capacity-fixtures.ts'
import { loadLatencies, samplePage, tokenPage } from './evidence-fixtures.ts'
import { monitorSamples, watchFixtures } from './monitor-fixtures.ts'
import { automaticOf, calibrationReportOf, checkOf, presetRecipeOf, schemeMapOf, SCHEMES, yamlOf } from './recipe-fixtures.ts'
import { fitOf } from '../lib/fit.ts'
import type { Connection, ConnectionState, EngineClient } from '../rpc.ts'
import {
  detailOf,
  hardware,
  KV_BYTES_PER_TOKEN,
  LIBRARY,
  predictionsOf,
  PRESETS,
  RESULTS,
  SAMPLE,
  SAMPLE_W4,
  tensorsOf,
} from './fixtures.ts'

/** Every change but `seq`, distributed over the union so that each kind keeps its own fields. */
type EventBody<Event = StudioEvent> = Event extends StudioEvent ? Omit<Event, 'seq'> : never

export interface FakeEngineOptions {
  readonly presets?: readonly Preset[]
  readonly library?: readonly ModelSummary[]
  readonly results?: readonly ResultSet[]
  readonly adapter?: 'software' | 'discrete'
  /** Makes a procedure fail, e.g. {'models.list': new LatheError(…)}. */
  readonly failures?: Readonly<Record<string, LatheError>>
  /** Procedures that never answer, for loading states. */
  readonly hanging?: readonly string[]
  /** Pause between the pieces of a chat answer. 0 in tests. */
  readonly chatDelayMs?: number
  /** Where the engine's own clock starts. */
  readonly startMs?: number
}

const CHAT_ANSWER =
  'Gus keeps a **hen** called Clover. She lives behind the *Clay Cup* and answers to nobody.\n\n1. She is eleven years old.\n2. She likes oat biscuits.\n\n```js\nconst pet = { owner: "Gus", kind: "hen" }\n```\n'

/** What the next answers do; tests change it between prompts. */
export interface ChatScript {
  readonly answer: string
  /** Waits after this many pieces of text until `releaseChat`, or until the client stops. */
  readonly holdAfter: number | null
  /** The message ends with this error after the first pieces. */
  readonly failWith: LatheError | null
  /** Thrown into the stream after `holdAfter` pieces, as a lost connection is; the engine keeps what it had. */
  readonly breakWith: Error | null
}

/** Work units of a scripted job, and how long one takes. */
const UNIT_MS = 400

export class FakeEngine implements Connection {
  readonly client: EngineClient
  models: ModelSummary[]
  results: ResultSet[]
  jobs: Job[] = []
  watches: QualityWatch[]
  server: ServerView = {
    state: 'stopped',
    url: null,
    startedAt: null,
    config: null,
    models: [],
    requests: [],
    blocksUsed: 0,
    blocksTotal: 0,
    keyHint: null,
    totals: { requests: 0, failed: 0, promptTokens: 0, cachedTokens: 0, generatedTokens: 0 },
    log: [],
    error: null,
  }
  serverKey: string | null = null
  readonly drafts = new Map<string, string>()
  settings: Settings = { ...DEFAULT_SETTINGS, contextTokens: 1024 }
  hardware: Hardware
  readonly runId = 'fake-run'
  readonly presets: readonly Preset[]
  readonly calls: { readonly path: string; readonly input: unknown }[] = []
  #now: number
  #sequence = 0
  #nextId = 1
  readonly #removed = new Map<string, ModelSummary>()
  readonly #logs = new Map<string, JobLogLine[]>()
  readonly #evaluations = new Map<string, EvaluationOptions>()
  chatScript: ChatScript = { answer: CHAT_ANSWER, holdAfter: null, failWith: null, breakWith: null }
  readonly #held = new Set<() => void>()
  readonly #threads: ChatThread[] = []
  readonly #messages = new Map<string, ChatMessage[]>()
  readonly #replaced = new Map<string, ChatMessage[]>()
  readonly #streams = new Set<(event: StudioEvent) => void>()
  #state: ConnectionState = { status: 'open', hasBeenOpen: true, attempt: 0 }
  readonly #stateListeners = new Set<() => void>()
  readonly #options: FakeEngineOptions

  constructor(options: FakeEngineOptions = {}) {
    this.#options = options
    this.#now = options.startMs ?? Date.parse('2026-11-23T12:00:00Z')
    this.presets = options.presets ?? PRESETS
    this.models = [...(options.library ?? LIBRARY)]
    this.results = [...(options.results ?? RESULTS)]
    this.watches = this.models.some((model) => model.id === SAMPLE_W4.id) ? watchFixtures(SAMPLE_W4.id) : []
    this.hardware = hardware(options.adapter ?? 'software')
    this.client = createRouterClient(this.#router()) as EngineClient
  }

  // Connection: always open unless a test says otherwise.
  getState = (): ConnectionState => this.#state
  subscribe = (listener: () => void): (() => void) => {
    this.#stateListeners.add(listener)
    return () => this.#stateListeners.delete(listener)
  }
  retryNow = (): void => this.setConnection({ status: 'open', hasBeenOpen: true, attempt: 0 })
  setConnection(state: ConnectionState): void {
    this.#state = state
    for (const listener of this.#stateListeners) listener()
  }

  /** Sends an event to every open stream. */
  emit(event: EventBody): void {
    this.#sequence += 1
    const complete = { ...event, seq: this.#sequence } as StudioEvent
    for (const push of this.#streams) push(complete)
  }

  /** Lets scripted jobs work for this long. */
  tick(milliseconds: number): void {
    this.#now += milliseconds
    for (let remaining = milliseconds; remaining > 0; remaining -= UNIT_MS) this.#work()
  }

  /** Lets held answers go on. */
  releaseChat(): void {
    for (const release of this.#held) release()
  }

  get now(): string {
    return new Date(this.#now).toISOString()
  }

  setServer(server: ServerView): void {
    this.server = server
    this.emit({ kind: 'server.changed' })
  }

  setJob(job: Job): void {
    const index = this.jobs.findIndex((other) => other.id === job.id)
    this.jobs = index === -1 ? [...this.jobs, job] : this.jobs.with(index, job)
    this.emit({ kind: 'job.changed', job })
  }

  #setLoaded(name: string, loaded: boolean): ServerView {
    const bytes = loaded ? { weights: 9_000_000, kv: 2_097_152, other: 1_048_576 } : null
    const models = this.server.models.map((model) =>
      model.name === name ? { ...model, loaded, bytes, contextLimit: loaded ? this.settings.contextTokens : null } : model,
    )
    this.setServer({ ...this.server, models })
    return this.server
  }

  newJob(change: Partial<Job> & Pick<Job, 'modelId' | 'title' | 'kind'>): Job {
    const phases = change.phases ?? []
    return {
      id: `job-${this.#nextId++}`,
      state: 'queued',
      variantId: null,
      presetId: null,
      progress: 0,
      etaSeconds: null,
      currentItem: null,
      rate: null,
      peakRssBytes: null,
      layers: null,
      stalledSeconds: 0,
      createdAt: this.now,
      startedAt: null,
      endedAt: null,
      queuePosition: 0,
      error: null,
      resumable: false,
      ...change,
      phases,
    }
  }

  #log(jobId: string, text: string, level: JobLogLine['level'] = 'info'): void {
    const line: JobLogLine = { at: this.now, level, text }
    this.#logs.set(jobId, [...(this.#logs.get(jobId) ?? []), line])
    this.emit({ kind: 'job.log', jobId, line })
  }

  #work(): void {
    const cancelling = this.jobs.find((job) => job.state === 'cancelling')
    if (cancelling !== undefined) {
      this.setJob({ ...cancelling, state: 'cancelled', endedAt: this.now, etaSeconds: null, resumable: true })
      this.#log(cancelling.id, 'Cancelled; finished layers are kept for resume', 'warn')
      return this.#renumber()
    }
    const running = this.jobs.find((job) => job.state === 'running')
    if (running === undefined) {
      const next = this.jobs.filter((job) => job.state === 'queued').sort((one, other) => one.queuePosition - other.queuePosition)[0]
      if (next === undefined) return
      this.setJob({ ...next, state: 'running', queuePosition: 0, startedAt: this.now, phases: startNext(next.phases) })
      this.#log(next.id, `Started ${next.title}`)
      return this.#renumber()
    }
    this.#advance(running)
  }

  #advance(job: Job): void {
    const index = job.phases.findIndex((phase) => phase.state === 'running')
    const phase = job.phases[index]
    if (phase === undefined) return this.#finish(job)
    const done = phase.done + 1
    const finished = done >= phase.total
    let phases = job.phases.with(index, { ...phase, done, state: finished ? 'done' : 'running' })
    if (finished) {
      this.#log(job.id, `${phase.title} finished: ${phase.total} ${phase.unit}`)
      phases = startNext(phases)
    }
    const total = phases.reduce((sum, other) => sum + other.total, 0)
    const soFar = phases.reduce((sum, other) => sum + other.done, 0)
    const left = ((total - soFar) * UNIT_MS) / 1000
    this.setJob({
      ...job,
      phases,
      progress: soFar / total,
      etaSeconds: soFar / total > 0.05 ? left : null,
      currentItem: phase.id === 'quantize' ? `model.layers.${Math.floor(done / 2)}.mlp.down_proj` : phase.id === 'tasks' ? 'reading' : null,
      rate: phase.id === 'quantize' ? { value: 212_000_000, unit: 'bytes' } : { value: 41.3, unit: phase.unit },
      peakRssBytes: 214_000_000,
      stalledSeconds: 0,
    })
    if (phases.every((other) => other.state === 'done')) this.#finish({ ...(this.jobs.find((other) => other.id === job.id) ?? job) })
  }

  #finish(job: Job): void {
    const source = this.models.find((model) => model.id === job.modelId)
    let variantId = job.variantId
    if (job.kind === 'compress' && source !== undefined) {
      const preset = PRESETS.find((candidate) => candidate.id === job.presetId)
      const prediction = predictionsOf(source, 1024, this.models, null).find((candidate) => candidate.preset.id === job.presetId)
      const variant: ModelSummary = {
        ...source,
        id: `${source.id}-${job.presetId}-${this.#nextId++}`,
        parentId: source.id,
        name: `${source.name} · ${preset?.title ?? 'variant'}`,
        createdAt: this.now,
        lastUsedAt: null,
        weightBytes: prediction?.predicted?.weightBytes ?? source.weightBytes,
        diskBytes: (prediction?.predicted?.weightBytes ?? source.weightBytes) + 170_000,
        scheme: preset?.scheme ?? 'mixed',
        bitsPerWeight: prediction?.predicted?.bitsPerWeight ?? 4,
        presetId: job.presetId,
        isSample: false,
      }
      variantId = variant.id
      this.models = [...this.models, variant]
      const template = this.results.find((result) => result.drift !== null)
      if (template !== undefined && this.#evaluations.get(job.id)?.perplexity === true)
        this.results = [...this.results, { ...template, modelId: variant.id }]
      this.emit({ kind: 'model.changed', model: variant })
      this.emit({ kind: 'results.changed', modelId: variant.id })
    }
    this.setJob({ ...job, state: 'succeeded', progress: 1, etaSeconds: null, currentItem: null, endedAt: this.now, variantId })
    this.#log(job.id, 'Finished')
    this.#renumber()
  }

  #renumber(): void {
    const busy = this.jobs.some((job) => job.state === 'running' || job.state === 'cancelling')
    const queued = this.jobs.filter((job) => job.state === 'queued').sort((one, other) => one.queuePosition - other.queuePosition)
    queued.forEach((job, index) => {
      const queuePosition = index + (busy ? 1 : 0)
      if (job.queuePosition !== queuePosition) this.setJob({ ...job, queuePosition })
    })
  }

  #model(modelId: string): ModelSummary {
    const model = this.models.find((candidate) => candidate.id === modelId)
    if (model === undefined)
      throw new LatheError('model.not-found', `There is no model ${modelId} in the library.`, 'Import its folder again.')
    return model
  }

  #boardEntry(parent: ModelSummary, origin: 'remote' | 'published', name: string): ModelSummary {
    const added: ModelSummary = {
      ...parent,
      id: `m-${this.#nextId++}`,
      parentId: parent.id,
      name,
      origin,
      path: '',
      weightBytes: 0,
      diskBytes: 0,
      presetId: null,
      createdAt: this.now,
    }
    return this.#addModel({ ...added, path: `${origin}:${added.id}` })
  }

  #queued(modelId: string, title: string): Job {
    const job = this.newJob({
      kind: 'evaluate',
      modelId,
      title,
      phases: [],
      queuePosition: this.jobs.filter((other) => other.state === 'queued' || other.state === 'running').length,
    })
    this.setJob(job)
    return job
  }

  /** What a library model takes here, so that a plan's bar and the limit of a chart look as they do on a real machine. */
  #ownParts(model: ModelSummary, contextTokens: number) {
    const { gpuBudgetBytes: budgetBytes } = this.hardware
    const { weightBytes } = model
    return { weightBytes, kvBytes: KV_BYTES_PER_TOKEN * contextTokens, activationBytes: 2_400_000, reserveBytes: 0, budgetBytes }
  }

  #job(jobId: string): Job {
    const job = this.jobs.find((candidate) => candidate.id === jobId)
    if (job === undefined) throw new LatheError('job.not-found', `There is no job ${jobId}.`, 'Go back to the list of jobs.')
    return job
  }

  #changeModel(model: ModelSummary): ModelSummary {
    this.models = this.models.map((other) => (other.id === model.id ? model : other))
    this.emit({ kind: 'model.changed', model })
    return model
  }

  #addModel(model: ModelSummary): ModelSummary {
    const existing = this.models.find((other) => other.path === model.path)
    if (existing !== undefined) return existing
    this.models = [...this.models, model]
    this.emit({ kind: 'model.changed', model })
    return model
  }

  #evaluationPhases(evaluate: EvaluationOptions): JobPhase[] {
    return [
      ...(evaluate.perplexity ? [pendingPhase('perplexity', 'Perplexity', 14, 'windows')] : []),
      ...(evaluate.tasks ? [pendingPhase('tasks', 'Tasks', 10, 'items')] : []),
      ...(evaluate.throughput ? [pendingPhase('throughput', 'Throughput', 6, 'runs')] : []),
    ]
  }

  #router() {
    const os = implement(contract).use(async ({ next, path, errors }, input) => {
      const name = path.join('.')
      this.calls.push({ path: name, input })
      if (this.#options.hanging?.includes(name) === true) await new Promise(() => {})
      const failure = this.#options.failures?.[name]
      try {
        if (failure !== undefined) throw failure
        return await next()
      } catch (error) {
        if (error instanceof LatheError) throw errors.LATHE({ message: error.message, data: error.toShape() })
        throw error
      }
    })
    return {
      system: {
        info: os.system.info.handler(() => ({
          version: '0.1.0',
          runId: this.runId,
          dataFolder: '/home/ada/.local/share/lathe',
          homeFolder: '/home/ada',
          platform: 'linux-x64',
          shell: 'browser' as const,
        })),
        hardware: os.system.hardware.handler(() => this.hardware),
        benchmark: os.system.benchmark.handler(() => ({
          copyGigabytesPerSecond: 11.2,
          readGigabytesPerSecond: 14.9,
          matmulGigaflops: 38.4,
          submitRoundTripMs: 0.21,
          adapter: this.hardware.adapters.find((adapter) => adapter.selected)?.name ?? 'none',
          software: this.#options.adapter !== 'discrete',
          measuredAt: this.now,
        })),
        diagnostics: os.system.diagnostics.handler(() => ({ text: 'Lathe 0.1.0\nNode 24.21.0\nadapter llvmpipe\n' })),
      },
      settings: {
        get: os.settings.get.handler(() => this.settings),
        update: os.settings.update.handler(({ input }) => {
          this.settings = Object.assign({}, this.settings, input)
          this.emit({ kind: 'settings.changed' })
          return this.settings
        }),
      },
      events: {
        watch: os.events.watch.handler(({ input, signal }) => this.#watch(input.runId === this.runId, signal)),
      },
      files: {
        browse: os.files.browse.handler(({ input }) => {
          const path = input.path ?? '/home/ada'
          const children: Record<string, { name: string; isModel: boolean }[]> = {
            '/home/ada': [
              { name: 'Documents', isModel: false },
              { name: 'models', isModel: false },
              { name: 'src', isModel: false },
            ],
            '/home/ada/models': [
              { name: 'Mixtral-8x7B-v0.1', isModel: true },
              { name: 'Qwen3-0.6B', isModel: true },
              { name: 'SmolLM2-135M-Instruct', isModel: true },
            ],
          }
          const entries = children[path]
          if (entries === undefined && !path.startsWith('/home/ada')) {
            throw new LatheError('disk.io', `${path} cannot be read.`, 'Check the path, or choose a folder below your home folder.')
          }
          return {
            path,
            parent: path === '/' ? null : path.slice(0, path.lastIndexOf('/')) || '/',
            freeBytes: 212_400_000_000,
            entries: (entries ?? []).map((entry) => ({ ...entry, path: `${path}/${entry.name}` })),
          }
        }),
      },
      models: {
        list: os.models.list.handler(() => this.models),
        import: os.models.import.handler(({ input }) => {
          if (input.path.endsWith('.gguf')) {
            throw new LatheError(
              'checkpoint.unsupported-file',
              'That is a GGUF file.',
              'Lathe reads Hugging Face folders with config.json and safetensors.',
            )
          }
          const existing = this.models.find((model) => model.path === input.path)
          return (
            existing ??
            this.#addModel({
              ...SAMPLE,
              id: `m-${this.#nextId++}`,
              name: input.path.split('/').at(-1) ?? input.path,
              path: input.path,
              isSample: false,
              createdAt: this.now,
            })
          )
        }),
        importSample: os.models.importSample.handler(() => this.#addModel(SAMPLE)),
        get: os.models.get.handler(({ input }) => detailOf(this.#model(input.modelId), this.models)),
        tensors: os.models.tensors.handler(({ input }) => tensorsOf(this.#model(input.modelId))),
        cacheCosts: os.models.cacheCosts.handler(() => streamOf(CACHE_COSTS)),
        tensorStats: os.models.tensorStats.handler(({ input }) => ({
          name: input.name,
          count: 163_840,
          min: -0.41,
          max: 0.39,
          mean: 0.00012,
          standardDeviation: 0.0521,
          zeroFraction: 0.0004,
          histogram: {
            from: -0.41,
            to: 0.39,
            counts: Array.from({ length: 48 }, (_, bin) => Math.round(16_000 * Math.exp(-(((bin - 24) / 7) ** 2)))),
          },
        })),
        rename: os.models.rename.handler(({ input }) => this.#changeModel({ ...this.#model(input.modelId), name: input.name })),
        remove: os.models.remove.handler(({ input }) => {
          const model = this.#model(input.modelId)
          this.#removed.set(model.id, model)
          this.models = this.models.filter((other) => other.id !== model.id)
          this.emit({ kind: 'model.removed', modelId: model.id })
          return {}
        }),
        restore: os.models.restore.handler(({ input }) => {
          const model = this.#removed.get(input.modelId)
          if (model === undefined) throw new LatheError('model.not-found', 'That model was not removed.', 'Import its folder again.')
          this.#removed.delete(model.id)
          return this.#addModel(model)
        }),
        deleteFiles: os.models.deleteFiles.handler(({ input }) => {
          const model = this.#model(input.modelId)
          if (input.confirmName !== model.name)
            throw new LatheError('request.invalid', 'The name does not match.', 'Type the name exactly as shown.')
          this.models = this.models.filter((other) => other.id !== model.id)
          this.emit({ kind: 'model.removed', modelId: model.id })
          return { freedBytes: model.diskBytes }
        }),
        locate: os.models.locate.handler(({ input }) =>
          this.#changeModel({ ...this.#model(input.modelId), path: input.path, status: 'ready', statusReason: null }),
        ),
        tokenizer: os.models.tokenizer.handler(() => ({
          vocabSize: 2048,
          kind: 'BPE',
          specialTokens: [
            { role: 'bos', id: 0, text: '<|endoftext|>' },
            { role: 'im_start', id: 1, text: '<|im_start|>' },
            { role: 'eos', id: 2, text: '<|im_end|>' },
            { role: 'pad', id: 3, text: '<|pad|>' },
          ],
          chatTemplate:
            "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}",
        })),
        tokenize: os.models.tokenize.handler(({ input }) => {
          const parts = input.text.match(/<\|[a-z_]+\|>|\s?[\p{L}]{1,5}|\s?\p{N}|\s+|[^\s\p{L}\p{N}]/gu) ?? []
          return {
            tokens: parts.map((text, index) => ({ id: (text.length * 131 + index * 7) % 2048, text, special: text.startsWith('<|') })),
            characters: input.text.length,
            bytes: new TextEncoder().encode(input.text).length,
          }
        }),
        renderChat: os.models.renderChat.handler(({ input }) => ({
          text: input.messages.map((message) => `<|im_start|>${message.role}\n${message.content}<|im_end|>\n`).join(''),
        })),
      },
      optimize: {
        presets: os.optimize.presets.handler(({ input }) =>
          predictionsOf(this.#model(input.modelId), input.contextTokens, this.models, this.hardware.gpuBudgetBytes, this.presets),
        ),
        preflight: os.optimize.preflight.handler(({ input }) => {
          const predictions = predictionsOf(this.#model(input.modelId), 1024, this.models, null, this.presets)
          const needBytes = predictions
            .filter((prediction) => input.presetIds.includes(prediction.preset.id))
            .reduce((sum, prediction) => sum + (prediction.predicted?.weightBytes ?? 0), 0)
          const freeBytes = input.outputFolder === '/media/full' ? 1_000_000 : 212_400_000_000
          return {
            outputFolder: input.outputFolder ?? '/home/ada/.local/share/lathe/variants',
            needBytes,
            freeBytes,
            problems:
              freeBytes < needBytes
                ? [
                    {
                      code: 'disk.full',
                      message: 'The disk of /media/full has 1.00 MB free.',
                      hint: 'Free some space or choose another folder.',
                      data: { needBytes, freeBytes },
                    },
                  ]
                : [],
            warnings: [],
            times: predictions
              .filter((prediction) => input.presetIds.includes(prediction.preset.id))
              .map(({ preset }) => ({
                title: preset.title,
                seconds: preset.outcome === null ? 4 : 480,
                basis: preset.outcome === null ? ('measured' as const) : ('guess' as const),
              })),
          }
        }),
        start: os.optimize.start.handler(({ input }) => {
          const model = this.#model(input.modelId)
          const layers = model.architecture.layers ?? 6
          const asked = [
            ...input.presetIds.map((presetId) => {
              const preset = this.presets.find((candidate) => candidate.id === presetId)
              if (preset === undefined)
                throw new LatheError('compress.invalid-recipe', `There is no preset ${presetId}.`, 'Choose one from the list.')
              return { presetId, title: preset.title }
            }),
            ...input.recipes.map(({ title }) => ({ presetId: null, title })),
          ]
          const started = asked.map(({ presetId, title }) => {
            const job = this.newJob({
              kind: 'compress',
              modelId: model.id,
              presetId,
              title: `${model.name} → ${title}`,
              phases: [
                { id: 'quantize', title: 'Quantize', state: 'pending', done: 0, total: layers * 2, unit: 'tensors' },
                { id: 'verify', title: 'Verify', state: 'pending', done: 0, total: 3, unit: 'files' },
                ...this.#evaluationPhases(input.evaluate),
              ],
              queuePosition: this.jobs.filter((other) => other.state === 'queued' || other.state === 'running').length,
            })
            this.#evaluations.set(job.id, input.evaluate)
            this.setJob(job)
            return job
          })
          return started
        }),
        schemes: os.optimize.schemes.handler(() => [...SCHEMES]),
        presetRecipe: os.optimize.presetRecipe.handler(({ input }) => presetRecipeOf(input.presetId)),
        writeRecipe: os.optimize.writeRecipe.handler(({ input }) => ({ yaml: yamlOf(input) })),
        checkRecipe: os.optimize.checkRecipe.handler(({ input }) =>
          checkOf(input.yaml, (bits) => {
            const model = this.#model(input.modelId)
            const weightBytes = Math.round((model.parameters * (bits + (16 - bits) * 0.115)) / 8)
            const budgetBytes = this.hardware.gpuBudgetBytes
            const kvBytesPerToken = detailOf(model, this.models).kvBytesPerToken
            const fit = {
              ...fitOf({ weightBytes, kvBytesPerToken, contextTokens: input.contextTokens, budgetBytes }),
              activationBytes: 2_400_000,
            }
            return { weightBytes, bitsPerWeight: (weightBytes * 8) / model.parameters, fit, skippedTensors: [], source: 'formula' }
          }),
        ),
        schemeMap: os.optimize.schemeMap.handler(({ input }) => {
          const { choice } = input
          const preset = 'presetId' in choice ? PRESETS.find((candidate) => candidate.id === choice.presetId) : undefined
          return schemeMapOf(this.#model(input.modelId), preset?.scheme ?? 'W4A16 g128')
        }),
        inspectCalibration: os.optimize.inspectCalibration.handler(({ input }) => calibrationReportOf(input.calibration)),
        automatic: os.optimize.automatic.handler(({ input }) => streamOf(automaticOf(this.#model(input.modelId), input.target.kind))),
        raise: os.optimize.raise.handler(({ input }) => {
          const variant = this.#model(input.variantId)
          return {
            modelId: variant.parentId ?? variant.id,
            recipe: { title: 'Balanced 4-bit, raised', yaml: presetRecipeOf('balanced-4bit').yaml },
            calibration: null,
            seed: 0,
            layer: 0,
            role: 'q_proj + k_proj + v_proj',
            from: variant.scheme,
            to: 'W8A16 g128',
            addedBytes: 262_144,
            recomputes: '5 of 6 layers are taken over from this variant byte for byte; layer 0 is made again.',
            takesOver: { layers: 5, ofLayers: 6 },
          }
        }),
      },
      jobs: {
        list: os.jobs.list.handler(() => this.jobs),
        get: os.jobs.get.handler(({ input }) => this.#job(input.jobId)),
        log: os.jobs.log.handler(({ input }) => this.#logs.get(input.jobId) ?? []),
        cancel: os.jobs.cancel.handler(({ input }) => {
          const job = this.#job(input.jobId)
          const next: Job = job.state === 'queued' ? { ...job, state: 'cancelled', endedAt: this.now } : { ...job, state: 'cancelling' }
          this.setJob(next)
          this.#renumber()
          return next
        }),
        resume: os.jobs.resume.handler(({ input }) => {
          const job = this.#job(input.jobId)
          if (!job.resumable) throw new LatheError('job.invalid-state', 'This job has nothing to resume.', 'Start it again from Optimize.')
          const next: Job = { ...job, state: 'queued', endedAt: null, error: null, resumable: false, queuePosition: 1 }
          this.setJob(next)
          this.#renumber()
          return next
        }),
        remove: os.jobs.remove.handler(({ input }) => {
          this.jobs = this.jobs.filter((job) => job.id !== input.jobId)
          this.emit({ kind: 'job.removed', jobId: input.jobId })
          return {}
        }),
      },
      results: {
        board: os.results.board.handler(({ input }) => {
          const asked = this.#model(input.modelId)
          const sourceId = asked.parentId ?? asked.id
          const models = this.models.filter((model) => model.id === sourceId || model.parentId === sourceId)
          return { models, results: this.results.filter((result) => models.some((model) => model.id === result.modelId)) }
        }),
        compare: os.results.compare.handler(({ input }) =>
          (this.results.find((result) => result.modelId === input.modelId)?.tasks ?? []).map((task) => ({
            task: task.task ?? task.name,
            title: task.title,
            metric: task.metric,
            filter: task.filter,
            higherIsBetter: task.higherIsBetter,
            baselineValue: task.value,
            value: task.value,
            n: task.n,
            paired: null,
            reason: 'The two models were asked different items.',
          })),
        ),
        samples: os.results.samples.handler(({ input }) => samplePage(input)),
        importPublished: os.results.importPublished.handler(({ input }) =>
          this.#boardEntry(this.#model(input.modelId), 'published', `${input.path.split('/').at(-1) ?? input.path} (published)`),
        ),
        evaluateTasks: os.results.evaluateTasks.handler(({ input }) =>
          input.modelIds.map((modelId) => this.#queued(modelId, `Tasks on ${this.#model(modelId).name}`)),
        ),
        tokens: os.results.tokens.handler(({ input }) => tokenPage(input, SAMPLE.id)),
        evaluate: os.results.evaluate.handler(({ input }) =>
          input.modelIds.map((modelId) => {
            const job = this.newJob({
              kind: 'evaluate',
              modelId,
              title: `${this.#model(modelId).name}: evaluation`,
              phases: this.#evaluationPhases(input.evaluate),
              queuePosition: this.jobs.filter((other) => other.state === 'queued' || other.state === 'running').length,
            })
            this.setJob(job)
            return job
          }),
        ),
      },
      remotes: {
        add: os.remotes.add.handler(({ input }) => {
          if (input.url.includes('unreachable'))
            throw new LatheError('remote.unreachable', `${input.url} can't be reached.`, 'Check that the server runs.')
          return this.#boardEntry(this.#model(input.parentId ?? SAMPLE.id), 'remote', input.name ?? input.model ?? 'served-model')
        }),
        setKey: os.remotes.setKey.handler(() => ({})),
      },
      benchmarks: {
        start: os.benchmarks.start.handler(({ input }) => this.#queued(input.modelId, `Load on ${this.#model(input.modelId).name}`)),
        export: os.benchmarks.export.handler(() => ({ fileName: 'benchmark.json', text: '{}' })),
        latencies: os.benchmarks.latencies.handler(({ input }) => loadLatencies(input.convention)),
      },
      capacity: {
        catalog: os.capacity.catalog.handler(() => CATALOG),
        plan: os.capacity.plan.handler(({ input }) => {
          const model = input.subject.kind === 'model' ? this.#model(input.subject.modelId) : null
          const title = model?.name ?? CATALOG.models.find((one) => input.subject.kind === 'published' && one.id === input.subject.id)?.name
          const gpu = CATALOG.devices.find((device) => device.id === input.deviceId)
          const named = model?.architecture.kvCacheDtype
          const own = model === null ? null : this.#ownParts(model, input.contextTokens)
          return {
            ...PLAN,
            ...(own === null
              ? {}
              : {
                  parts: { ...PLAN.parts, ...own },
                  fit: { ...PLAN.fit, ...own, contextTokens: input.contextTokens, verdict: 'fits' as const },
                }),
            request: { ...input, kvElement: input.kvElement === 'auto' ? (named ?? 'f16') : input.kvElement },
            subject: { ...PLAN.subject, title: title ?? PLAN.subject.title, ...(named !== undefined && { kvElement: named }) },
            gpu: { ...PLAN.gpu, title: gpu?.name ?? PLAN.gpu.title },
          }
        }),
        checks: os.capacity.checks.handler(() => CHECKS),
      },
      monitor: {
        read: os.monitor.read.handler(({ input }) => ({
          metricsUrl: `${input.url}/metrics`,
          models: ['pebble-tidewater-w4'],
          samples: monitorSamples(240, this.#now - 480_000).filter((sample) => input.after === null || sample.at > input.after),
          restarted: false,
        })),
        watches: os.monitor.watches.handler(() => this.watches),
        setWatch: os.monitor.setWatch.handler(({ input: { modelId, everyHours } }) => {
          const others = this.watches.filter((watch) => watch.modelId !== modelId)
          const added = { modelId, checks: [], nextAt: this.now, state: 'waiting' as const, reason: null }
          this.watches = everyHours === null ? others : [...others, { ...added, everyHours }]
          return this.watches
        }),
      },
      chat: {
        threads: os.chat.threads.handler(() => this.#threads.toSorted((one, other) => other.updatedAt.localeCompare(one.updatedAt))),
        create: os.chat.create.handler(({ input }) => {
          const thread: ChatThread = {
            id: `thread-${this.#nextId++}`,
            title: 'New chat',
            modelId: input.modelId,
            systemPrompt: '',
            sampling: { temperature: 0.7, topK: 40, topP: 0.95, minP: 0, seed: null, maxTokens: null, stop: [] },
            createdAt: this.now,
            updatedAt: this.now,
            messageCount: 0,
          }
          this.#threads.push(thread)
          this.emit({ kind: 'threads.changed', threadId: thread.id })
          return thread
        }),
        update: os.chat.update.handler(({ input }) => {
          const thread = this.#thread(input.threadId)
          Object.assign(
            thread,
            Object.fromEntries(Object.entries(input).filter(([key, value]) => key !== 'threadId' && value !== undefined)),
            { updatedAt: this.now },
          )
          this.emit({ kind: 'threads.changed', threadId: thread.id })
          return thread
        }),
        remove: os.chat.remove.handler(({ input }) => {
          this.#threads.splice(this.#threads.indexOf(this.#thread(input.threadId)), 1)
          this.emit({ kind: 'threads.changed', threadId: input.threadId })
          return {}
        }),
        messages: os.chat.messages.handler(({ input }) => this.#messages.get(input.threadId) ?? []),
        restore: os.chat.restore.handler(({ input }) => {
          this.#messages.set(input.threadId, this.#replaced.get(input.threadId) ?? [])
          this.emit({ kind: 'threads.changed', threadId: input.threadId })
          return this.#messages.get(input.threadId) ?? []
        }),
        branch: os.chat.branch.handler(({ input }) => {
          const from = this.#thread(input.threadId)
          const messages = this.#messages.get(from.id) ?? []
          const kept = messages.slice(0, messages.findIndex((message) => message.id === input.messageId) + 1)
          const thread = { ...from, id: `thread-${this.#nextId++}`, title: `${from.title} (2)`, messageCount: kept.length }
          this.#threads.push(thread)
          this.#messages.set(thread.id, kept)
          this.emit({ kind: 'threads.changed', threadId: thread.id })
          return thread
        }),
        search: os.chat.search.handler(({ input }) =>
          [...this.#messages].flatMap(([threadId, messages]) => {
            const found = messages.findLast((message) => message.content.toLowerCase().includes(input.text.toLowerCase()))
            return found === undefined ? [] : [{ threadId, messageId: found.id, snippet: found.content.slice(0, 80) }]
          }),
        ),
        drafts: os.chat.drafts.handler(() => Object.fromEntries(this.drafts)),
        saveDraft: os.chat.saveDraft.handler(({ input }) => {
          if (input.text === '') this.drafts.delete(input.key)
          else this.drafts.set(input.key, input.text)
          return {}
        }),
        send: os.chat.send.handler(({ input, signal }) =>
          this.#answer(input.threadId, input.modelId, input.content, input.replaceFrom, signal),
        ),
      },
      server: {
        view: os.server.view.handler(() => this.server),
        start: os.server.start.handler(({ input }) => {
          const models = input.modelIds.map((modelId, index) => ({
            modelId,
            name: this.#model(modelId).name.replaceAll(/[^\w.]+/g, '-'),
            loaded: index === 0,
            contextLimit: index === 0 ? (input.contextTokens ?? this.settings.contextTokens) : null,
            pinned: index === 0,
            inUse: 0,
            bytes: index === 0 ? { weights: this.#model(modelId).weightBytes, kv: 2_097_152, other: 1_048_576 } : null,
            unloadAt: null,
            loading: null,
            kvDtype: 'f16',
            kvNamedByCheckpoint: false,
            speculation: null,
          }))
          this.serverKey = input.apiKey ?? this.serverKey ?? 'a-drawn-secret-key'
          this.setServer({
            ...this.server,
            state: 'running',
            url: `http://${input.host}:${input.port}/v1`,
            startedAt: this.now,
            config: { ...input, apiKey: null },
            keyHint: this.serverKey.slice(-4),
            models,
          })
          return this.server
        }),
        stop: os.server.stop.handler(() => {
          this.setServer({ ...this.server, state: 'stopped', url: null, startedAt: null, models: [] })
          return this.server
        }),
        key: os.server.key.handler(() => ({ apiKey: this.serverKey })),
        load: os.server.load.handler(({ input }) => this.#setLoaded(input.name, true)),
        unload: os.server.unload.handler(({ input }) => this.#setLoaded(input.name, false)),
        test: os.server.test.handler(() => ({ status: 200, milliseconds: 120, answer: 'Hello!' })),
        abort: os.server.abort.handler(({ input }) => {
          const requests = this.server.requests.map((request) =>
            request.id === input.requestId
              ? { ...request, state: 'aborted' as const, endedAt: this.now, reason: 'aborted', blocks: 0 }
              : request,
          )
          this.setServer({ ...this.server, requests })
          return {}
        }),
      },
      runtime: {
        unload: os.runtime.unload.handler(({ input }) => {
          this.hardware = {
            ...this.hardware,
            loaded: this.hardware.loaded.filter((model) => model.modelId !== input.modelId),
            gpuBytesInUse: 0,
            ledger: [],
          }
          this.emit({ kind: 'hardware.changed' })
          return {}
        }),
        profile: os.runtime.profile.handler(() => ({
          decode: [
            { kernel: 'matvec-w4-g128', milliseconds: 5.1, share: 0.71, gigabytesPerSecond: 9.8, gigaflops: null, dispatches: 42 },
            { kernel: 'attention-paged', milliseconds: 1.2, share: 0.17, gigabytesPerSecond: 4.4, gigaflops: null, dispatches: 6 },
            { kernel: 'rms-norm', milliseconds: 0.5, share: 0.07, gigabytesPerSecond: null, gigaflops: null, dispatches: 13 },
          ],
          prefill: [{ kernel: 'matmul-w4-g128', milliseconds: 60, share: 0.9, gigabytesPerSecond: null, gigaflops: 35, dispatches: 42 }],
          adapter: 'llvmpipe (LLVM 19.1, 256 bits)',
          software: true,
        })),
      },
    }
  }

  #thread(threadId: string): ChatThread {
    const thread = this.#threads.find((candidate) => candidate.id === threadId)
    if (thread === undefined) throw new LatheError('request.invalid', 'That conversation is gone.', 'Start a new one.')
    return thread
  }

  async *#watch(sameRun: boolean, signal: AbortSignal | undefined): AsyncGenerator<StudioEvent> {
    const queue: StudioEvent[] = []
    let wake: (() => void) | null = null
    const push = (event: StudioEvent) => {
      queue.push(event)
      wake?.()
    }
    this.#streams.add(push)
    signal?.addEventListener('abort', () => wake?.())
    try {
      yield { seq: this.#sequence, kind: 'hello', resumed: sameRun, runId: this.runId }
      for (;;) {
        if (signal?.aborted === true) return
        const event = queue.shift()
        if (event !== undefined) yield event
        else await new Promise<void>((resolve) => (wake = resolve))
      }
    } finally {
      this.#streams.delete(push)
    }
  }

  async *#answer(threadId: string, modelId: string, content: string, replaceFrom: string | null, signal: AbortSignal | undefined) {
    const thread = this.#thread(threadId)
    const { answer, holdAfter, failWith, breakWith } = this.chatScript
    const pause = () => new Promise((resolve) => setTimeout(resolve, this.#options.chatDelayMs ?? 0))
    const earlier = this.#messages.get(threadId) ?? []
    const cut = earlier.findIndex((message) => message.id === replaceFrom)
    // As in the engine: an answer is replaced together with the prompt before it.
    const kept = cut === -1 ? earlier : earlier.slice(0, earlier[cut]?.role === 'assistant' ? cut - 1 : cut)
    if (cut !== -1) this.#replaced.set(threadId, earlier)
    const blank = { createdAt: this.now, stats: null, error: null }
    const userMessage: ChatMessage = { ...blank, id: `msg-${this.#nextId++}`, role: 'user', content, modelId: null }
    const open: ChatMessage = { ...blank, id: `msg-${this.#nextId++}`, role: 'assistant', content: '', modelId }
    this.#messages.set(threadId, [...kept, userMessage, open])
    Object.assign(thread, {
      title: thread.title === 'New chat' ? content.slice(0, 40) : thread.title,
      messageCount: kept.length + 2,
      updatedAt: this.now,
      modelId,
    })
    this.emit({ kind: 'threads.changed', threadId })
    let text = ''
    let tokens = 0
    let broken = false
    try {
      yield { kind: 'accepted' as const, userMessage, assistantMessageId: open.id }
      for (let step = 1; step <= 4; step += 1) {
        if (signal?.aborted === true) break
        yield { kind: 'loading' as const, doneBytes: step * 800_000, totalBytes: 3_200_000, phase: 'Uploading weights' }
        await pause()
      }
      yield { kind: 'prefill' as const, done: 64, total: 64 }
      const pieces = answer.match(/.{1,6}/gs) ?? []
      for (const [index, piece] of pieces.entries()) {
        if (index === holdAfter) {
          if (breakWith !== null) {
            broken = true
            throw breakWith
          }
          await this.#hold(signal)
        }
        if (signal?.aborted === true || (failWith !== null && index === 3)) break
        text += piece
        tokens += 2
        yield { kind: 'text' as const, text: piece, tokens }
        await pause()
      }
    } finally {
      const whole = text === answer
      const error = broken
        ? new LatheError('runtime.aborted', 'Lathe closed while this answer was being written.', 'Regenerate it.').toShape()
        : (failWith?.toShape() ?? null)
      const stats: AnswerStats = {
        promptTokens: 64,
        completionTokens: tokens,
        timeToFirstTokenMs: 182,
        loadMs: 240,
        prefillTokensPerSecond: 884,
        decodeTokensPerSecond: tokens > 1 ? 71.3 : null,
        stopReason: whole ? 'stop' : 'aborted',
        seed: 1234,
        adapter: 'llvmpipe (LLVM 19.1, 256 bits)',
        softwareAdapter: true,
        contextUsed: 64 + tokens,
        contextLimit: 1024,
      }
      this.#messages.set(threadId, [...kept, userMessage, { ...open, content: text, error, stats: error === null ? stats : null }])
      this.emit({ kind: 'threads.changed', threadId })
    }
    const message = this.#messages.get(threadId)?.at(-1)
    if (message !== undefined) yield { kind: 'done' as const, message }
  }

  async #hold(signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted === true) return
    await new Promise<void>((resolve) => {
      const release = () => {
        this.#held.delete(release)
        resolve()
      }
      this.#held.add(release)
      signal?.addEventListener('abort', release, { once: true })
    })
  }
}

function pendingPhase(id: string, title: string, total: number, unit: string): JobPhase {
  return { id, title, state: 'pending', done: 0, total, unit }
}

function startNext(phases: JobPhase[]): JobPhase[] {
  const index = phases.findIndex((phase) => phase.state === 'pending')
  const phase = phases[index]
  return phase === undefined ? phases : phases.with(index, { ...phase, state: 'running' })
}

/** As runtime/README.md has them for the demo model. */
const CACHE_COSTS: readonly CacheCostEvent[] = [
  { kind: 'progress', done: 0, total: 3 },
  { kind: 'cost', cost: { kvDtype: 'f16', bytesPerToken: 3072, kldMean: 6e-9, kldP99: 1.1e-7, sameTop: 1, positions: 599 } },
  { kind: 'progress', done: 1, total: 3 },
  { kind: 'cost', cost: { kvDtype: 'int8', bytesPerToken: 1632, kldMean: 3.7e-6, kldP99: 6e-5, sameTop: 0.9983, positions: 599 } },
  { kind: 'cost', cost: { kvDtype: 'int8/int4', bytesPerToken: 1248, kldMean: 3.3e-4, kldP99: 5.8e-3, sameTop: 0.99, positions: 599 } },
  { kind: 'progress', done: 3, total: 3 },
]

async function* streamOf<Event>(events: readonly Event[]): AsyncGenerator<Event> {
  yield* events
}
