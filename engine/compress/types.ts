/**
 * What the rest of Lathe sees of a compression: the request, its progress, and the report. The function that runs it is `compress` in
 * pipeline.ts; `predict` in plan.ts answers "how large would it be" from headers alone. Nothing here knows jobs, screens or stores.
 */
import type { TensorError } from '../contract/index.ts'
import type { Recipe } from './recipe.ts'

export interface CompressOptions {
  readonly sourceFolder: string
  /** The final folder; must not exist. Work happens in the sibling `.<name>.partial` and is renamed into place at the end. */
  readonly outFolder: string
  /** A preset's id or a whole recipe (recipe.ts). */
  readonly recipe: { readonly presetId: string } | { readonly recipe: Recipe }
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
  readonly onLog?: (line: { readonly level: 'info' | 'warn'; readonly text: string }) => void
}

export type CompressPhaseId = 'read' | 'quantize' | 'write' | 'verify'

/** Bytes per phase. Reading, quantizing and writing overlap; verifying follows. */
export interface CompressPhase {
  readonly id: CompressPhaseId
  readonly doneBytes: number
  readonly totalBytes: number
}

export interface CompressProgress {
  readonly phases: readonly CompressPhase[]
  /** The phase a person should look at now: 'verify' once everything is written, otherwise 'quantize'. */
  readonly current: CompressPhaseId
  readonly currentTensor: string | null
  readonly tensorsDone: number
  readonly tensorsTotal: number
  /** Source bytes per second since the start (not counting tensors that a resumed run found finished); null before the first block. */
  readonly bytesPerSecond: number | null
  readonly rssBytes: number
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
  readonly resumed: boolean
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
  readonly resumed: boolean
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
