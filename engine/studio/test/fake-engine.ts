/**
 * An engine without a GPU for the studio's tests: real folders and real headers, a runtime with a fixed next-token table, a compressor that copies
 * the source in steps which a test can hold and release. Nothing here measures anything.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { parseRecipeYaml, recipeToYaml } from '../../compress/recipe-yaml.ts'
import type { Recipe } from '../../compress/recipe.ts'
import type { CompressOptions, CompressReport, ModelCardEvaluation } from '../../compress/types.ts'
import { LatheError } from '../../contract/index.ts'
import type { Adapter, LoadedModel, Preset } from '../../contract/index.ts'
import { createTableRuntime, scoreTablePair } from '../../evaluate/test/table-runtime.ts'
import type { GenerationEvent, GenerationRequest, Runtime, RuntimeTelemetry } from '../../runtime/types.ts'
import { headersOnly, weightLosses } from '../bindings/compress.ts'
import { bindFit } from '../bindings/fit.ts'
import { hashTensor, inspectModelFolder } from '../bindings/checkpoint.ts'
import type { AcquireModel, BindOptions, EnginePorts, FolderTokenizer, ModelsPort } from '../ports.ts'

export const FAKE_ADAPTER: Adapter = {
  id: 'fake',
  name: 'Fake adapter',
  vendor: 'nobody',
  backend: 'vulkan',
  driver: 'fake 1.0',
  type: 'software',
  selected: true,
  usable: true,
  reason: null,
  features: { f16: false, subgroups: false, subgroupSize: null, timestamps: false, packedDot: false, subgroupMatrix: false },
  emulates: ['int8', 'e4m3', 'e2m1'],
  limits: null,
  memory: { totalBytes: 1e9, freeBytes: 5e8, source: 'fake' },
}

export const FAKE_PRESET: Preset = {
  id: 'balanced-4bit',
  title: 'Balanced 4-bit',
  promise: 'A quarter of the size.',
  scheme: 'W4A16 g128',
  algorithm: 'copy',
  nominalBitsPerWeight: 4.1,
  qualityClass: 'balanced',
  fastOn: 'nothing',
  recommended: true,
  needsCalibration: false,
  inputElements: [],
  outcome: null,
}

/** Fits matrices of any width. */
export const FAKE_RECIPE: Recipe = parseRecipeYaml(
  'QuantizationModifier: {ignore: [lm_head], config_groups: {group_0: {targets: [Linear], weights: {num_bits: 4, strategy: channel}}}}',
)

/** A gate that work waits at until a test opens it; open by default. */
export class Gate {
  #opened: Promise<void> = Promise.resolve()
  #open: () => void = () => {}
  #arrived: () => void = () => {}
  #free = 0

  /** Closes it after letting some through; the promise resolves when somebody waits at it. */
  close(free = 0): Promise<void> {
    this.#free = free
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#opened = promise
    this.#open = resolve
    return new Promise((arrived) => {
      this.#arrived = arrived
    })
  }

  open(): void {
    this.#open()
  }

  async pass(signal?: AbortSignal): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1
      return
    }
    this.#arrived()
    const aborted = Promise.withResolvers<void>()
    signal?.addEventListener('abort', () => aborted.resolve(), { once: true })
    if (signal?.aborted === true) aborted.resolve()
    await Promise.race([this.#opened, aborted.promise])
    signal?.throwIfAborted()
  }
}

export interface FakeEngine {
  readonly bind: (options: BindOptions) => EnginePorts
  /** Passed before each of the compressor's four steps. */
  readonly compressGate: Gate
  /** Passed before each generated token. */
  readonly tokenGate: Gate
  /** Passed while a model loads. */
  readonly loadGate: Gate
  readonly generated: GenerationRequest[]
  readonly compressions: CompressOptions[]
  /** Steps of the compressor that were really done, resumed ones not counted. */
  readonly steps: string[]
  /** Model cards written, oldest first. */
  readonly cards: { readonly folder: string; readonly evaluation: ModelCardEvaluation }[]
  /** What loading a model throws, by the model's name. */
  readonly failLoading: Map<string, LatheError>
  hasAdapter: boolean
  gpuBudgetBytes: number
  /** What `predict` says instead of the truth. */
  predictedBytes: number | null
  answer: string[]
  failWith: LatheError | null
  /** Called just after a finished folder got its name; may throw, as a kill ends everything. */
  afterRename: (() => void) | null
}

const COMPRESS_STEPS = 4

export function createFakeEngine(): FakeEngine {
  const engine: FakeEngine = {
    bind: (options) => bindFake(engine, options),
    compressGate: new Gate(),
    tokenGate: new Gate(),
    loadGate: new Gate(),
    generated: [],
    compressions: [],
    steps: [],
    cards: [],
    failLoading: new Map(),
    hasAdapter: true,
    gpuBudgetBytes: 1e9,
    predictedBytes: null,
    answer: ['Hello', ', ', 'world', '.'],
    failWith: null,
    afterRename: null,
  }
  return engine
}

function bindFake(engine: FakeEngine, { onModelsChanged }: BindOptions): EnginePorts {
  const gpu: EnginePorts['gpu'] = {
    state: async () => ({
      adapters: [{ ...FAKE_ADAPTER }],
      advice: [],
      ledger: [{ owner: 'model:fake', bytes: 111, buffers: 3 }],
      gpuBytesInUse: 111,
      gpuBudgetBytes: engine.gpuBudgetBytes,
    }),
    current: async () => {
      if (!engine.hasAdapter) throw new LatheError('gpu.no-adapter', 'No GPU driver was found.', 'Install one.')
      return { id: FAKE_ADAPTER.id, name: FAKE_ADAPTER.name, type: FAKE_ADAPTER.type, driver: FAKE_ADAPTER.driver }
    },
    benchmark: async () => ({
      copyGigabytesPerSecond: 1,
      readGigabytesPerSecond: 2,
      matmulGigaflops: 3,
      multiplyAddGigaflops: 4,
      layerMicroseconds: 20,
      linear: [{ format: 'bf16', readGigaweightsPerSecond: 1, multiplyGigaflops: 3 }],
      stepCosts: null,
      submitRoundTripMs: 4,
      adapter: FAKE_ADAPTER.name,
      software: true,
      measuredAt: new Date(0).toISOString(),
    }),
    energy: async () => ({ reason: 'The fake adapter has no counter.' }),
    select: async (id) => {
      if (id !== null && id !== FAKE_ADAPTER.id)
        throw new LatheError('gpu.no-adapter', `No usable adapter matches "${id}".`, 'Choose another.')
    },
  }
  return {
    gpu,
    checkpoint: {
      inspect: async (folder) => ({ ...(await inspectModelFolder(folder)), hasTokenizer: true, hasChatTemplate: true }),
      hashTensor,
      tensorStats: async (_folder, name) => ({
        name,
        count: 4,
        min: 0,
        max: 1,
        mean: 0.5,
        standardDeviation: 0.1,
        zeroFraction: 0,
        histogram: { from: 0, to: 1, counts: [1, 3] },
      }),
    },
    tokenizers: { open: async () => fakeTokenizer },
    models: fakeModels(engine, onModelsChanged),
    compressor: {
      ...headersOnly,
      losses: weightLosses,
      listPresets: () => [FAKE_PRESET],
      presetRecipe: () => FAKE_RECIPE,
      predict: async (folder, presetId) => {
        if (presetId !== FAKE_PRESET.id)
          throw new LatheError('compress.invalid-recipe', `There is no preset "${presetId}".`, 'Choose another.')
        const facts = await inspectModelFolder(folder)
        return {
          scheme: FAKE_PRESET.scheme,
          weightBytes: engine.predictedBytes ?? facts.weightBytes,
          bitsPerWeight: facts.bitsPerWeight,
          skippedTensors: [],
          warnings: [],
        }
      },
      compress: (options) => fakeCompress(engine, options),
      updateModelCard: async (folder, evaluation) => {
        engine.cards.push({ folder, evaluation })
      },
      discardPartial: async (out) => rmSync(partialOf(out), { recursive: true, force: true }),
    },
    fit: bindFit(gpu),
    close: async () => {},
  }
}

/** One token per character code, modulo a vocabulary of 16. */
const fakeTokenizer: FolderTokenizer = {
  bosTokenId: null,
  eosTokenId: 0,
  encode: (text) => Uint32Array.from(text, (character) => (character.codePointAt(0) ?? 0) % 16),
  decode: (ids) => Array.from(ids, (id) => String.fromCodePoint(96 + id)).join(''),
  info: { vocabSize: 16, kind: 'fake', specialTokens: [{ role: 'eos', id: 0, text: '<eos>' }], chatTemplate: '{{ messages }}' },
  tokenize: (text) => ({
    tokens: Array.from(text, (character) => ({ id: (character.codePointAt(0) ?? 0) % 16, text: character, special: false })),
    characters: text.length,
    bytes: Buffer.byteLength(text),
  }),
  renderChat: (messages) => messages.map((message) => `${message.role}: ${message.content}\n`).join(''),
}

function fakeModels(engine: FakeEngine, onModelsChanged: () => void): ModelsPort {
  const loaded = new Map<string, { model: LoadedModel; runtime: Runtime; leases: number }>()
  const acquire = async (options: AcquireModel) => {
    const failure = engine.failLoading.get(options.name)
    if (failure !== undefined) throw failure
    let entry = loaded.get(options.modelId)
    if (entry === undefined) {
      options.onProgress?.({ phase: 'uploading', doneBytes: 50, totalBytes: 100 })
      await engine.loadGate.pass(options.signal)
      const isVariant = existsSync(join(options.folder, 'run.json'))
      const runtime = fakeRuntime(engine, options.modelId, isVariant, options.matrixUnits === true)
      const model = {
        modelId: options.modelId,
        name: options.name,
        weightBytes: 100,
        kvBytes: 10,
        otherBytes: 1,
        contextLimit: 4096,
        busy: false,
        lastUsedAt: new Date(0).toISOString(),
      }
      entry = { model, runtime, leases: 0 }
      loaded.set(options.modelId, entry)
      onModelsChanged()
    }
    const held = entry
    held.leases += 1
    let released = false
    const release = (): void => {
      if (!released) held.leases -= 1
      released = true
    }
    return { runtime: held.runtime, release, [Symbol.dispose]: release }
  }
  return {
    acquire,
    loaded: () => [...loaded.values()].map((entry) => ({ ...entry.model, busy: entry.leases > 0 })),
    unload: async (modelId) => {
      if ((loaded.get(modelId)?.leases ?? 0) > 0) throw new LatheError('model.busy', 'The model is in use.', 'Wait.')
      loaded.delete(modelId)
    },
    scorePair: scoreTablePair,
    peakGpuBytes: () => 123,
    profile: async () => ({
      decode: [{ kernel: 'linear', milliseconds: 1, share: 1, gigabytesPerSecond: 2, gigaflops: null, dispatches: 3 }],
      prefill: [],
    }),
  }
}

const IDLE: RuntimeTelemetry = {
  running: 0,
  waiting: 0,
  kvBlocksUsed: 0,
  kvBlocksTotal: 4,
  tokenBudget: 64,
  lastStepMs: null,
  steps: 0,
  preemptions: 0,
  promptTokens: 0,
  cachedPromptTokens: 0,
  generatedTokens: 0,
  hostMsPerStep: null,
}

/** Prefers the next id; the variant a little less, so that drift is not zero. */
function fakeRuntime(engine: FakeEngine, modelId: string, isVariant: boolean, matrixUnits: boolean): Runtime {
  const preferred = isVariant ? 0.4 : 0.55
  const table = (previous: number): number[] =>
    Array.from({ length: 16 }, (_, id) => (id === (previous + 1) % 16 ? preferred : (1 - preferred) / 15))
  const runtime = createTableRuntime(modelId, table, 16, 4096)
  return {
    ...runtime,
    info: matrixUnits ? { ...runtime.info, matrixUnits } : runtime.info,
    telemetry: () => IDLE,
    generate: (request) => (request.ignoreEos === true ? runtime.generate(request) : fakeGenerate(engine, request)),
  }
}

async function* fakeGenerate(engine: FakeEngine, request: GenerationRequest): AsyncGenerator<GenerationEvent> {
  engine.generated.push(request)
  const promptTokens = request.promptTokens.length
  yield { kind: 'prefill', done: promptTokens, total: promptTokens }
  let count = 0
  let reason: 'stop' | 'aborted' = 'stop'
  for (const text of engine.answer) {
    try {
      await engine.tokenGate.pass(request.signal)
    } catch {
      reason = 'aborted'
      break
    }
    if (engine.failWith !== null) throw engine.failWith
    count += 1
    yield { kind: 'tokens', ids: [count], logprobs: [-0.1], text }
  }
  yield {
    kind: 'finished',
    reason,
    stopString: null,
    stopTokenId: reason === 'stop' ? 0 : null,
    stats: {
      promptTokens,
      cachedTokens: 0,
      completionTokens: count,
      queueMs: 10,
      firstTokenMs: count === 0 ? null : 110,
      lastTokenMs: count === 0 ? null : 110 + 20 * (count - 1),
      totalMs: 200,
      preemptions: 0,
      seed: typeof request.sampling.seed === 'number' ? request.sampling.seed : 4711,
    },
  }
}

function partialOf(out: string): string {
  return join(dirname(out), `.${basename(out)}.partial`)
}

/** Four steps with a journal: an aborted run leaves its partial folder, a resumed one continues, the end is a rename. */
async function fakeCompress(engine: FakeEngine, options: CompressOptions): Promise<CompressReport> {
  engine.compressions.push(options)
  if (existsSync(options.outFolder))
    throw new LatheError('checkpoint.already-exists', `${options.outFolder} exists.`, 'Choose another folder.')
  const partial = partialOf(options.outFolder)
  const journal = join(partial, 'journal')
  if (!options.resume) rmSync(partial, { recursive: true, force: true })
  mkdirSync(partial, { recursive: true })
  const finished = existsSync(journal) ? Number(readFileSync(journal, 'utf8')) : 0
  for (let step = finished; step < COMPRESS_STEPS; step++) {
    report(options, step)
    await engine.compressGate.pass(options.signal)
    engine.steps.push(`${basename(options.outFolder)}:${step}`)
    writeFileSync(journal, String(step + 1))
  }
  report(options, COMPRESS_STEPS)
  if (engine.failWith !== null) throw engine.failWith
  for (const name of ['config.json', 'model.safetensors']) cpSync(join(options.sourceFolder, name), join(partial, name))
  options.onLayer?.({ layer: 0, layers: 1, outputError: 0.03, seconds: 0.5, secondsLeft: 0 })
  const tensor = { name: 'model.layers.0.mlp.up_proj', layer: 0, kind: 'up_proj', scheme: FAKE_PRESET.scheme }
  const preset = 'presetId' in options.recipe ? options.recipe.presetId : null
  await writeRunRecord(partial, options.sourceFolder, options.seed, preset)
  writeFileSync(join(partial, 'recipe.yaml'), recipeToYaml('recipe' in options.recipe ? options.recipe.recipe : FAKE_RECIPE))
  rmSync(journal)
  renameSync(partial, options.outFolder)
  engine.afterRename?.()
  return {
    outFolder: options.outFolder,
    presetId: preset,
    scheme: FAKE_PRESET.scheme,
    bytesIn: 400,
    bytesOut: 100,
    bitsPerWeight: 4,
    seconds: 0.1,
    peakRssBytes: 1000,
    resumed: finished > 0,
    tensors: [{ ...tensor, sqnrDb: 20, relativeError: 0.1, maxError: 0.2, cosine: 0.99, bytes: 10 }],
    ignored: [],
    warnings: [],
  }
}

/** A run.json with what the studio reads of it. */
export async function writeRunRecord(
  folder: string,
  sourceFolder: string,
  seed: number,
  preset: string | null = FAKE_PRESET.id,
): Promise<void> {
  const { tensors } = await inspectModelFolder(sourceFolder)
  const hashes: [string, { sha256: string }][] = []
  for (const { name } of tensors) hashes.push([name, { sha256: await hashTensor(sourceFolder, name) }])
  const record = {
    run: 'lathe-compression',
    preset,
    seed,
    bytes_in: 400,
    bytes_out: 100,
    source: { name: basename(sourceFolder), tensors: Object.fromEntries(hashes) },
    tensors: [
      {
        name: 'model.layers.0.mlp.up_proj',
        scheme: FAKE_PRESET.scheme,
        sqnr_db: 20,
        relative_error: 0.1,
        max_error: 0.2,
        cosine: 0.99,
        bytes: 10,
      },
    ],
  }
  writeFileSync(join(folder, 'run.json'), JSON.stringify(record))
}

function report(options: CompressOptions, step: number): void {
  const doneBytes = step * 100
  options.onProgress?.({
    phases: [
      { id: 'read', doneBytes, totalBytes: 400 },
      { id: 'quantize', doneBytes, totalBytes: 400 },
      { id: 'write', doneBytes: step * 25, totalBytes: 100 },
      { id: 'verify', doneBytes: step === COMPRESS_STEPS ? 100 : 0, totalBytes: 100 },
    ],
    current: step === COMPRESS_STEPS ? 'verify' : 'quantize',
    currentTensor: `tensor ${step}`,
    tensorsDone: step,
    tensorsTotal: COMPRESS_STEPS,
    bytesPerSecond: null,
    rssBytes: 1000,
  })
}
