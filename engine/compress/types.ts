/**
 * What the rest of Lathe sees of a compression: the request, its progress, and the report. The function that runs it is `compress` in
 * pipeline.ts; `predict` in plan.ts answers "how large would it be" from headers alone. Nothing here knows jobs, screens or stores.
 */
import type { Backend } from '../gpu/program.ts'
import type { Outcome, TakenOver, TensorError } from '../contract/index.ts'
import type { OutcomeRecord } from './outcome-record.ts'
import type { RecipeChoice } from './presets.ts'

/** Text that a calibrated recipe is fitted to (calibration/samples.ts). */
export interface CalibrationOptions {
  /** A .jsonl of {"text"} or {"messages"} objects, or plain text. */
  readonly path: string
  /** At most this many samples… */
  readonly samples: number
  /** …of at most this many tokens. */
  readonly sequenceLength: number
  /** Chooses the samples. */
  readonly seed: number
  /** Activations beyond this go to the disk, beside the output; by default 2 GiB, or a quarter of what is free where that is less. */
  readonly activationBytes?: number
  /** What later layers are calibrated on: outputs of the layers as stored (LLM Compressor's `propagate_error`, the default) or the original's. */
  readonly propagate?: 'compressed' | 'original'
  /** Documents kept out of it, from the far end of the seed's order, to measure results on; 0 by default. */
  readonly holdOut?: number
}

/** As run.json records it. */
export interface CalibrationRecord {
  /** File name. */
  readonly source: string
  readonly samples: number
  readonly tokens: number
  readonly sequenceLength: number
  readonly seed: number
  /** Of all token ids and sample lengths. */
  readonly sha256: string
  readonly adapter: string
  /** As in CalibrationOptions. */
  readonly propagate: 'compressed' | 'original'
}

/** A finished result of the same source, of which what this run would make the same way is taken over byte for byte. */
export interface BaseVariant {
  readonly folder: string
  /** For people. */
  readonly name: string
}

export interface CompressOptions {
  /** Needed by recipes with more than plain quantization; ignored by others. */
  readonly calibration?: CalibrationOptions
  /** Opens the device that layers of a calibrated run go through; the pipeline disposes it. The best adapter by default. */
  readonly openBackend?: () => Promise<Backend>
  /**
   * Where the result of a run without calibration generates a few tokens before it gets its name; the pipeline disposes it. Null = it cannot be
   * tried here. Absent = it is not tried.
   */
  readonly openTrial?: () => Promise<Backend | null>
  /**
   * Asked before device memory is used, with all that the run will hold from then on. The first call may wait for others to let go; false
   * from a later one means that there is not that much, and what it was for is left out.
   */
  readonly reserveDevice?: (bytes: number) => Promise<boolean>
  readonly sourceFolder: string
  /** The final folder; must not exist. Work happens in the sibling `.<name>.partial` and is renamed into place at the end. */
  readonly outFolder: string
  /** Changes no byte of the result: what it does not fit is computed, and the log says why. */
  readonly base?: BaseVariant
  /** A preset's id or a whole recipe (recipe.ts). */
  readonly recipe: RecipeChoice
  /** Divergence of at most so many nats per token is promised and measured at the end (studio/outcomes); null or absent = nothing is. */
  readonly holdsWithin?: number | null
  /** Recorded, and fed to algorithms that draw random numbers. Same input, recipe and seed give the same bytes. */
  readonly seed: number
  /** Continue from the journal of an interrupted run, if there is one. False discards what such a run left and starts over. */
  readonly resume: boolean
  /** Version of this program, for the record. */
  readonly latheVersion: string
  /** Shown in the model card as `base_model`; the source folder's name by default. */
  readonly sourceName?: string
  /** Abort keeps finished work for a later resume; call `discardPartial` to throw it away. Rejects with `job.cancelled`. */
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: CompressProgress) => void
  /** Each stored tensor as it finishes (also those that a resumed run found finished), in no particular order. */
  readonly onTensor?: (error: TensorError) => void
  /** Once, before anything is computed; also after a resume. Not called where nothing was taken over. */
  readonly onTakenOver?: (what: TakenOver, layers: readonly LayerFigures[]) => void
  /** Each layer of a calibrated run as it finishes. */
  readonly onLayer?: (report: LayerReport) => void
  readonly onLog?: (line: { readonly level: 'info' | 'warn'; readonly text: string }) => void
}

export interface LayerReport {
  readonly layer: number
  readonly layers: number
  /** ‖layer as stored − layer before‖ / ‖what the layer adds to its input‖ on a share of the calibration text; null where not measured. */
  readonly outputError: number | null
  readonly seconds: number
  /** Estimate for the layers to come, from those done. */
  readonly secondsLeft: number
}

/** Kept in run.json, so that a later run that takes the layer over can show it. */
export interface LayerFigures {
  readonly layer: number
  readonly outputError: number | null
}

/** Where a calibrated run is. */
export interface LayerProgress {
  readonly layer: number
  readonly layers: number
  /** What is being done: "Pruning q", "AWQ 12 of 40". */
  readonly note: string
  /** null until the first layer has been measured. */
  readonly secondsLeft: number | null
}

export type CompressPhaseId = 'read' | 'quantize' | 'write' | 'verify'

/** Bytes per phase. Reading, quantizing and writing overlap; verifying follows. */
export interface CompressPhase {
  readonly id: CompressPhaseId
  readonly doneBytes: number
  readonly totalBytes: number
}

/** One part of a preset that measures before it keeps a result. */
export interface CompressStage {
  readonly id: 'layers' | 'candidate' | 'measure'
  /** "GPTQ, 1 of 2". */
  readonly title: string
  /** Candidates finished before this one. */
  readonly finished: number
  /** Candidates in all, as far as known. */
  readonly total: number
  /** Work units of `layers` and `measure`. */
  readonly done: number
  readonly of: number
}

export interface CompressProgress {
  readonly phases: readonly CompressPhase[]
  /** The phase a person should look at now: 'verify' once everything is written, otherwise 'quantize'. */
  readonly current: CompressPhaseId
  readonly currentTensor: string | null
  /** null without calibration, and before and after the layers. */
  readonly layer?: LayerProgress | null
  readonly tensorsDone: number
  readonly tensorsTotal: number
  /** Source bytes per second since the start (not counting tensors that a resumed run found finished); null before the first block. */
  readonly bytesPerSecond: number | null
  readonly rssBytes: number
  /** Of a preset that tries several: which one this is about, and measuring units where nothing is compressed. Absent otherwise. */
  readonly stage?: CompressStage
}

/** A matrix that stays as it was although a person may expect otherwise, and why. */
export interface IgnoredTensor {
  /** Module name as in `ignore` of the quantization config: no `.weight`. */
  readonly name: string
  readonly reason: string
  /** `by-design`: embeddings, output head, routers, or the recipe's own ignore list. `refused`: the scheme does not fit it. */
  readonly kind: 'by-design' | 'refused'
}

export interface CompressReport {
  readonly outFolder: string
  readonly presetId: string | null
  /** "W4A16 g128"; several joined by " + " where a recipe mixes them. */
  readonly scheme: string
  /** Bytes of all tensors before and after (headers and side files not counted). */
  readonly bytesIn: number
  readonly bytesOut: number
  /** Bits stored per source parameter, all tensors counted. */
  readonly bitsPerWeight: number
  /** Wall time of this run. A resumed run counts only itself. */
  readonly seconds: number
  readonly peakRssBytes: number
  /** Most device memory held by a calibrated run; null without calibration. */
  readonly peakGpuBytes?: number | null
  /** What a calibrated run was fitted to; null without calibration. */
  readonly calibration?: CalibrationRecord | null
  readonly resumed: boolean
  /** What was measured before this result was kept; null or absent where nothing was promised. */
  readonly outcome?: Outcome | null
  /** null where everything was computed. */
  readonly takenOver?: TakenOver | null
  readonly tensors: readonly TensorError[]
  readonly ignored: readonly IgnoredTensor[]
  readonly warnings: readonly string[]
}

/** For tests and benchmarks; leave it out otherwise. */
export interface CompressTuning {
  /** Free bytes on the disk of a folder; statfs by default. */
  readonly freeBytes?: (folder: string) => Promise<number>
  /** Worker threads; the machine's cores, at most 8, by default. */
  readonly threads?: number
  /** Source bytes per block. */
  readonly blockBytes?: number
  readonly maxShardBytes?: number
  /** Where GPTQ's arithmetic runs; by adapter and size by default. */
  readonly roundOn?: 'device' | 'processor'
  /** Written bytes after which finished tensors are forced to the disk and journaled; 0 journals each one. */
  readonly journalBatchBytes?: number
}

/** `lathe compress --json` (field names are fixed; more may be added, in snake_case). */
export interface CliReport {
  readonly out: string
  readonly preset: string | null
  readonly scheme: string
  readonly bytes_in: number
  readonly bytes_out: number
  readonly bits_per_weight: number
  readonly seconds: number
  readonly peak_rss_bytes: number
  /** null without calibration. */
  readonly peak_gpu_bytes: number | null
  readonly resumed: boolean
  /** null where everything was computed. */
  readonly taken_over: { readonly from: string; readonly layers: readonly number[]; readonly tensors: number } | null
  /** What was measured before this result was kept; null where nothing was promised. */
  readonly outcome: OutcomeRecord | null
  readonly tensors: readonly {
    readonly name: string
    readonly scheme: string
    readonly sqnr_db: number | null
    readonly relative_error: number
    readonly max_error: number
    readonly cosine: number
    readonly bytes: number
  }[]
  readonly ignored: readonly { readonly name: string; readonly reason: string }[]
  readonly warnings: readonly string[]
}

/** The answer of `predict`: exact, from shapes alone. */
export interface Prediction {
  readonly scheme: string
  readonly weightBytes: number
  readonly bitsPerWeight: number
  /** Of a preset that searches: the least and the most it can come to. */
  readonly range?: { readonly leastBytes: number; readonly mostBytes: number }
  /** Matrices that the scheme does not fit. */
  readonly skippedTensors: readonly { readonly name: string; readonly reason: string }[]
  readonly warnings: readonly string[]
}

/** What an interrupted run left beside `outFolder`. */
export interface PartialState {
  readonly presetId: string | null
  readonly seed: number
  readonly tensorsDone: number
  readonly tensorsTotal: number
}

/** Results that `updateModelCard` writes into README.md of a finished variant; null fields are left out. */
export interface ModelCardEvaluation {
  /** One row per measured quantity: the variant beside its baseline, as already formatted text. */
  readonly rows: readonly {
    readonly metric: string
    readonly baseline: string
    readonly variant: string
    readonly note: string | null
  }[]
  /** Adapter, protocol and date, one line each. */
  readonly provenance: readonly string[]
}
