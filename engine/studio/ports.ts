/**
 * What the studio needs from the rest of the engine, as narrow interfaces in the contract's own words. The real implementations are bound in
 * one place (`studio.ts` through `bindings.ts`), so everything else in this folder can be tested with fakes and without a GPU.
 * Ports know nothing of the store, of jobs or of transports.
 */
import type {
  Adapter,
  Architecture,
  EvaluationOptions,
  Fit,
  HardwareBenchmark,
  KernelShare,
  LedgerEntry,
  LoadedModel,
  PerplexityResult,
  DriftResult,
  Preset,
  Provenance,
  Sampling,
  TaskResult,
  TensorError,
  TensorInfo,
  TensorStats,
  ThroughputResult,
  Tokenization,
  TokenizerInfo,
} from '../contract/index.ts'
import type { LatheError } from '../contract/index.ts'

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
  readonly hasTokenizer: boolean
  readonly hasChatTemplate: boolean
  readonly license: string | null
  readonly config: Readonly<Record<string, unknown>>
  readonly files: readonly { readonly name: string; readonly bytes: number }[]
  readonly tensors: readonly TensorInfo[]
  readonly bytesByDtype: Readonly<Record<string, number>>
  readonly bytesByKind: Readonly<Record<string, number>>
  /** null when it can be run here; else why it can only be inspected. */
  readonly unsupported: LatheError | null
  /** Bytes of KV cache per token at the runtime's default dtype; null if not runnable. */
  readonly kvBytesPerToken: number | null
}

export interface CheckpointPort {
  /** Throws the LatheError that says what is wrong with the folder. */
  inspect(folder: string): Promise<FolderFacts>
  tensorStats(folder: string, name: string, signal: AbortSignal): Promise<TensorStats>
}

export interface TokenizerPort {
  info(folder: string): Promise<TokenizerInfo>
  tokenize(folder: string, text: string): Promise<Tokenization>
  renderChat(folder: string, messages: readonly { readonly role: string; readonly content: string }[]): Promise<string>
}

export interface GpuState {
  readonly adapters: readonly Adapter[]
  readonly advice: readonly { readonly what: string; readonly why: string; readonly fix: string }[]
  readonly ledger: readonly LedgerEntry[]
  readonly bytesInUse: number
  readonly budgetBytes: number | null
}

export interface GpuPort {
  /** Adapters and memory now; `selected` marks the one that work would run on. */
  state(): Promise<GpuState>
  benchmark(signal: AbortSignal): Promise<HardwareBenchmark>
  /** The adapter that work runs on; fixed while anything is loaded. */
  current(): Promise<Pick<Adapter, 'id' | 'name' | 'type' | 'driver'>>
  /** null = automatic. Takes effect when nothing is in use. */
  select(adapterId: string | null): Promise<void>
}

export interface LoadProgress {
  readonly phase: string
  readonly doneBytes: number
  readonly totalBytes: number
}

export type AnswerEvent =
  | { readonly kind: 'loading'; readonly progress: LoadProgress }
  | { readonly kind: 'prefill'; readonly done: number; readonly total: number }
  | { readonly kind: 'text'; readonly text: string; readonly tokens: number }
  | {
      readonly kind: 'finished'
      readonly reason: 'stop' | 'length' | 'context' | 'aborted' | 'error'
      readonly promptTokens: number
      readonly completionTokens: number
      readonly loadMs: number
      readonly firstTokenMs: number | null
      readonly prefillTokensPerSecond: number | null
      readonly decodeTokensPerSecond: number | null
      readonly seed: number
      readonly contextLimit: number
    }

export interface AnswerRequest {
  readonly modelId: string
  readonly folder: string
  readonly messages: readonly { readonly role: string; readonly content: string }[]
  readonly sampling: Sampling
  readonly signal: AbortSignal
}

export interface ChatPort {
  /** Loads the model if needed and streams one answer; always ends with `finished` or throws. */
  answer(request: AnswerRequest): AsyncIterable<AnswerEvent>
}

export interface RuntimePort {
  loaded(): readonly LoadedModel[]
  unload(modelId: string): Promise<void>
  profile(
    modelId: string,
    folder: string,
    signal: AbortSignal,
  ): Promise<{ readonly decode: readonly KernelShare[]; readonly prefill: readonly KernelShare[] }>
}

/** A phase's progress in its own units. */
export interface PhaseProgress {
  readonly done: number
  readonly total: number
  /** Tensor, task or window at work. */
  readonly item: string | null
}

export interface PresetForecast {
  readonly preset: Preset
  readonly predicted: {
    readonly weightBytes: number
    readonly bitsPerWeight: number
    readonly fit: Fit
    readonly skippedTensors: readonly { readonly name: string; readonly reason: string }[]
    readonly source: string
  } | null
  readonly blockedBy: LatheError | null
}

export interface CompressRequest {
  readonly source: string
  readonly out: string
  readonly presetId: string
  readonly seed: number
  readonly resume: boolean
  readonly signal: AbortSignal
  readonly onProgress: (phase: 'read' | 'quantize' | 'write' | 'verify', progress: PhaseProgress) => void
  readonly onLog: (level: 'info' | 'warn', text: string) => void
}

export interface CompressOutcome {
  readonly folder: string
  readonly bytesIn: number
  readonly bytesOut: number
  readonly tensorErrors: readonly TensorError[]
  readonly ignored: readonly { readonly name: string; readonly reason: string }[]
}

export interface CompressPort {
  presets(): readonly Preset[]
  forecast(folder: string, contextTokens: number): Promise<readonly PresetForecast[]>
  /** Bytes the output will need on disk, workspace included. */
  needBytes(folder: string, presetId: string): Promise<number>
  compress(request: CompressRequest): Promise<CompressOutcome>
  /** Deletes what an unfinished compression left beside `out`. */
  discard(out: string): Promise<void>
  /** Work units of each phase before it starts, for the first estimate. */
  plan(folder: string, presetId: string): Promise<readonly { readonly phase: string; readonly total: number; readonly unit: string }[]>
}

export interface EvaluateSubject {
  readonly modelId: string
  readonly folder: string
}

export interface EvaluateRequest {
  readonly subject: EvaluateSubject
  /** null when the subject is itself the baseline. */
  readonly baseline: EvaluateSubject | null
  readonly options: EvaluationOptions
  readonly signal: AbortSignal
}

/** One finished measurement, handed over as soon as it exists so that charts fill while the rest is still running. */
export type Measurement =
  | { readonly kind: 'perplexity'; readonly modelId: string; readonly result: PerplexityResult; readonly protocolKey: string }
  | { readonly kind: 'drift'; readonly modelId: string; readonly result: DriftResult; readonly protocolKey: string }
  | { readonly kind: 'task'; readonly modelId: string; readonly result: TaskResult; readonly protocolKey: string }
  | { readonly kind: 'throughput'; readonly modelId: string; readonly result: ThroughputResult; readonly protocolKey: string }

export type MeasurementProvenance = Provenance
