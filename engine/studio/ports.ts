/**
 * What the studio needs from the rest of the engine, as narrow interfaces over the engine's own types. The real implementations are bound in one
 * place (`bindings/`, composed in `studio.ts`), so everything else in this folder can be tested with fakes and without a GPU.
 * Ports know nothing of the store, of jobs or of transports.
 */
import type { EnergyChoice } from '../benchmark/energy/energy-source.ts'
import type { MeasuredOverhead } from '../capacity/overhead.ts'
import type { StepParts } from '../gpu/step-costs.ts'
import type { KvWish } from '../gpu/kv-format.ts'
import type { RecipePlan } from '../compress/authoring/recipe-plan.ts'
import type { CalibrationNeeds } from '../compress/calibration/needs.ts'
import type { LossTable, MixedTarget, SchemeMap } from '../compress/mixed-precision/scheme-map.ts'
import type { Recipe } from '../compress/recipe.ts'
import type { Scheme } from '../compress/scheme.ts'
import type { SameMaking } from '../compress/same-making.ts'
import type {
  BaseVariant,
  CalibrationOptions,
  CompressOptions,
  CompressReport,
  ModelCardEvaluation,
  Prediction,
} from '../compress/types.ts'
import type {
  Adapter,
  Architecture,
  Fit,
  Hardware,
  HardwareBenchmark,
  InputElement,
  KernelShare,
  LatheError,
  LoadedModel,
  LossMeasure,
  Preset,
  TensorInfo,
  TensorStats,
  Tokenization,
  TokenizerInfo,
} from '../contract/index.ts'
import type { TextCodec } from '../evaluate/text-codec.ts'
import type { LoadProgress, ModelLease, ModelRoom, ScorePair, Speculation } from '../runtime/types.ts'

/** Severity and one line for people; never a secret, may hold paths (diagnostics redact the home folder). */
export type Log = (level: 'info' | 'warn' | 'error', text: string) => void

/** Everything that the headers and side files of a model folder tell. Reads no weights. */
export interface FolderFacts {
  readonly architecture: Architecture
  readonly parameters: number
  readonly weightBytes: number
  readonly diskBytes: number
  readonly scheme: string
  readonly bitsPerWeight: number
  /** What inputs of its linears are rounded to. */
  readonly inputElements: readonly InputElement[]
  readonly hasTokenizer: boolean
  readonly hasChatTemplate: boolean
  readonly license: string | null
  /** First heading of the model card. */
  readonly title: string | null
  readonly config: Readonly<Record<string, unknown>>
  readonly files: readonly { readonly name: string; readonly bytes: number }[]
  readonly tensors: readonly TensorInfo[]
  readonly bytesByDtype: Readonly<Record<string, number>>
  readonly bytesByKind: Readonly<Record<string, number>>
  /** null when it can be run here; else why it can only be inspected. */
  readonly unsupported: LatheError | null
  /** Bytes of KV cache per token at the runtime's default dtype; null if not runnable. */
  readonly kvBytesPerToken: number | null
  /** The checkpoint brings scales for an FP8 KV cache, which such a cache then uses. */
  readonly hasKvScales?: boolean
  /** The type of cache that the checkpoint names, which a load that asks for none gets; absent or null = none. */
  readonly kvCacheDtype?: 'fp8' | null
  /** What a step of one token consists of; absent or null if not runnable. */
  readonly stepParts?: StepParts | null
}

export interface CheckpointPort {
  /** Throws the LatheError that says what is wrong with the folder. */
  inspect(folder: string): Promise<FolderFacts>
  tensorStats(folder: string, name: string, signal: AbortSignal): Promise<TensorStats>
  /** sha256 of a tensor's stored bytes, hexadecimal. */
  hashTensor(folder: string, name: string): Promise<string>
}

export interface PromptMessage {
  readonly role: string
  readonly content: string
}

/** A model folder's tokenizer and chat template. */
export interface FolderTokenizer extends TextCodec {
  /** Special tokens are written out. */
  decode(ids: Iterable<number>): string
  readonly info: TokenizerInfo
  tokenize(text: string): Tokenization
  /** The prompt text with the generation prompt at its end. Throws `tokenizer.no-chat-template` or `tokenizer.template-failed`. */
  renderChat(messages: readonly PromptMessage[]): string
}

export interface TokenizerPort {
  /** Loads it, or returns the one that is loaded. Throws `tokenizer.missing` or `tokenizer.invalid`. */
  open(folder: string): Promise<FolderTokenizer>
}

/** The adapter that work runs on, as provenance records it. */
export type CurrentAdapter = Pick<Adapter, 'id' | 'name' | 'type' | 'driver'>

export interface GpuPort {
  /** Adapters and memory now; `selected` marks the one that work runs on. */
  state(): Promise<Pick<Hardware, 'adapters' | 'advice' | 'ledger' | 'gpuBytesInUse' | 'gpuBudgetBytes'>>
  current(): Promise<CurrentAdapter>
  benchmark(signal: AbortSignal): Promise<HardwareBenchmark>
  /** The counter of the current adapter's energy, or why there is none. */
  energy(): Promise<EnergyChoice>
  /** null = automatic. Unloads everything first; throws `model.busy` while a model is in use. */
  select(adapterId: string | null): Promise<void>
}

/** A model folder under the id that the library gave it. */
export interface ModelRef {
  readonly modelId: string
  readonly name: string
  readonly folder: string
}

export interface AcquireModel extends ModelRef {
  readonly contextTokens: number
  readonly kvDtype: KvWish
  /** Tokens that the cache of a new load holds over all sequences; default and least: one full context. */
  readonly kvTokens?: number | undefined
  /** Requests that a new load may answer at once; default: the runtime's own. */
  readonly maxSequences?: number | undefined
  /** Least room, for measurements of many requests: instead of the two above, and a load with less is not shared. */
  readonly room?: ModelRoom | undefined
  /** Requests that may wait in a new load before others are refused. */
  readonly maxQueued?: number | undefined
  /** How a load made for this speculates; one that exists is shared as it is, since its answers are the same. */
  readonly speculation?: Speculation | undefined
  /** Runtimes that read prompts for a new load, and the adapter they use (null: that of the answers). */
  readonly disaggregation?: { readonly prefillEngines: number; readonly prefillAdapter: string | null } | undefined
  /** Only for a load that asks for it too: evaluations and benchmarks of the studio never do. */
  readonly matrixUnits?: boolean | undefined
  readonly signal: AbortSignal
  readonly onProgress?: (progress: LoadProgress) => void
}

export interface ModelsPort {
  /** Loads it, or shares the one that is loaded; it stays until the lease is released. */
  acquire(options: AcquireModel): Promise<ModelLease>
  loaded(): readonly LoadedModel[]
  unload(modelId: string): Promise<void>
  readonly scorePair: ScorePair
  /** Most bytes that the model has held on the device since it was loaded. */
  peakGpuBytes(modelId: string): number
  profile(model: AcquireModel): Promise<{ readonly decode: readonly KernelShare[]; readonly prefill: readonly KernelShare[] }>
}

export interface LossRequest {
  readonly schemes: readonly Scheme[]
  readonly measure: LossMeasure
  /** What the output is measured on. */
  readonly text: CalibrationOptions
  readonly signal: AbortSignal
  readonly onProgress: (done: number, total: number, unit: string) => void
}

/** What a calibrated run tells of the device as it goes. */
export interface DeviceListener {
  readonly onBytes: (bytes: number) => void
  readonly onWait: (message: string) => void
}

export interface CompressPort {
  listPresets(): readonly Preset[]
  /** Throws `compress.invalid-recipe` for an unknown id. */
  presetRecipe(presetId: string): Recipe
  /** Exact sizes from headers. Throws the LatheError that says why the preset can't be applied. */
  predict(folder: string, presetId: string): Promise<Prediction>
  /** The same of any recipe, unit by unit. */
  plan(folder: string, recipe: Recipe): Promise<RecipePlan>
  /** What every unit of linears loses in each of the schemes. */
  losses(folder: string, request: LossRequest): Promise<LossTable>
  choose(folder: string, table: LossTable, target: MixedTarget): Promise<SchemeMap>
  /** What calibrating on so much text takes, from headers. Throws `model.unsupported-architecture`. */
  needs(folder: string, size: Pick<CalibrationOptions, 'samples' | 'sequenceLength'>, software: boolean): Promise<CalibrationNeeds>
  /** Layers that `base` has as this recipe would make them, from headers and records; text and adapter are taken to be those of the base. */
  takesOver(folder: string, recipe: Recipe, base: BaseVariant): Promise<Pick<SameMaking, 'layers' | 'ofLayers' | 'nothing'>>
  /** A calibrated run takes its memory of the device from what models may take, and waits for those in use where that is too little. */
  compress(options: CompressOptions, device?: DeviceListener): Promise<CompressReport>
  /** Deletes what an interrupted run left beside `outFolder`; nothing if there is nothing. */
  discardPartial(outFolder: string): Promise<void>
  /** Writes what was measured into the variant's README.md. */
  updateModelCard(folder: string, evaluation: ModelCardEvaluation): Promise<void>
}

export interface FitPort {
  /** What a model of this many weight bytes needs on the current adapter. */
  fit(facts: FolderFacts, weightBytes: number, contextTokens: number): Promise<Fit>
}

/** What the engine's parts are told when they are bound. */
export interface BindOptions {
  /** null = LATHE_ADAPTER, else the adapter that fits best. */
  readonly adapterId: string | null
  readonly log: Log
  /** A model was loaded, unloaded, or became busy or idle. */
  readonly onModelsChanged: () => void
  /** Where measured loads are remembered; absent where nothing lasts. */
  readonly overheads?: OverheadPort
}

/** By how much loads missed their prediction, for each adapter under its present driver. */
export interface OverheadPort {
  get(adapter: Pick<CurrentAdapter, 'id' | 'driver'>): MeasuredOverhead | null
  /** Never throws: no load fails because of what is written about it. */
  add(adapter: Pick<CurrentAdapter, 'id' | 'driver'>, bytes: number): void
}

/** Everything that the studio takes from the engine. */
export interface EnginePorts {
  readonly checkpoint: CheckpointPort
  readonly tokenizers: TokenizerPort
  readonly gpu: GpuPort
  readonly models: ModelsPort
  readonly compressor: CompressPort
  readonly fit: FitPort
  /** Releases everything on the device. */
  close(): Promise<void>
}
