/**
 * How kernels are shaped for an adapter: chosen once, from its type and limits, and the same for every batch, so that a row's bits never depend
 * on its neighbours. specs/webgpu-kernels.md §a for the seeds.
 */
import type { GpuDevice } from './device.ts'

/** A fifth of what Windows allows one submission before it resets the driver. */
const SUBMIT_MS = 400

export interface Tuning {
  /** Who owns an output row of a linear: one invocation (`rows`), or several lanes that share it (`lanes`). */
  readonly linear: {
    readonly family: 'rows' | 'lanes'
    readonly workgroup: number
    /** Rows per invocation. */
    readonly rows: number
    /** Lanes per row at most; a short row takes fewer. 1 in the rows family. */
    readonly lanes: number
    /** Inputs staged at a time per column, in elements (lanes family). */
    readonly stageElements: number
    /** Column tiles, ascending: the smallest that holds the step's columns is used, else the last, repeatedly. */
    readonly columns: readonly number[]
    /** Other shapes for all column tiles but the first; the lanes of a row, part of the definition of its bits, stay. null = the same. */
    readonly wide: { readonly workgroup: number; readonly rows: number; readonly stageElements: number } | null
  }
  readonly attention: {
    /** One invocation per token and head group (`rows`), or a workgroup (`lanes`). */
    readonly family: 'rows' | 'lanes'
    readonly workgroup: number
    /** Keys per chunk: part of the definition of a result's bits. */
    readonly chunk: number
    /** Partial sums per head within a chunk. */
    readonly sublanes: number
    /** Query heads of one kv head that share a workgroup, at most. */
    readonly team: number
    /** Spread a token's chunks over workgroups while the step has at most this many (token, chunk) pairs. 0 = never. */
    readonly splitPairs: number
  }
  /** Gram matrices from this width on take wide tiles (lanes family): narrower ones have too few of them to fill a GPU. */
  readonly gram: { readonly wideFrom: number }
  /** Weights are cut into shards of at most this; null = what the adapter binds. */
  readonly weightShardBytes: number | null
  /** Widths in bits of weights that are packed if they turn out to be 2:4 sparse (sparse-rows.ts). Results have the same bits either way. */
  readonly packsSparse: readonly (4 | 8 | 16)[]
  /** Workgroup of row-wise kernels: norms, embedding, gathers. */
  readonly rowWorkgroup: number
  readonly headWorkgroup: number
  readonly logits: { readonly workgroup: number; readonly chunk: number }
  /** Milliseconds that one submit may keep the device busy, as far as measured steps tell (submit-clock.ts). */
  readonly submitMs: number
}

/** CPU rasterisers run a workgroup as a few SIMD vectors on one core: small groups, no sharing, every barrier costs. */
const SOFTWARE: Tuning = {
  linear: { family: 'rows', workgroup: 16, rows: 4, lanes: 1, stageElements: 0, columns: [1, 4, 8, 16], wide: null },
  attention: { family: 'rows', workgroup: 8, chunk: 32, sublanes: 1, team: 4, splitPairs: 0 },
  gram: { wideFrom: Infinity },
  weightShardBytes: null,
  // Arithmetic limits them, not bytes, and the unpacking takes their compilers seconds.
  packsSparse: [],
  rowWorkgroup: 32,
  headWorkgroup: 32,
  logits: { workgroup: 32, chunk: 2048 },
  submitMs: SUBMIT_MS,
}

const GPU: Tuning = {
  linear: {
    family: 'lanes',
    workgroup: 128,
    rows: 4,
    lanes: 32,
    stageElements: 1024,
    columns: [1, 4],
    // More invocations share what is staged: on an H200 1.3 to 1.5 times as fast at 8 to 256 columns as the narrow tile's shape. 16 lanes
    // would make wide tiles another 1.25 times as fast, and a single column 0.85 to 0.9 times.
    wide: { workgroup: 256, rows: 4, stageElements: 1024 },
  },
  attention: { family: 'lanes', workgroup: 128, chunk: 64, sublanes: 16, team: 4, splitPairs: 1024 },
  gram: { wideFrom: 3072 },
  weightShardBytes: null,
  // Nibbles from two arrays took an H200 1.4 to 1.5 times as long as the dense ones at 8 tokens and more, for a quarter of the bytes.
  packsSparse: [8, 16],
  rowWorkgroup: 256,
  headWorkgroup: 64,
  logits: { workgroup: 256, chunk: 4096 },
  submitMs: SUBMIT_MS,
}

export function tuningFor(gpu: Pick<GpuDevice, 'software'>): Tuning {
  return gpu.software ? SOFTWARE : GPU
}

/** The GPU shapes, for testing them on software adapters. */
export function gpuTuning(): Tuning {
  return GPU
}
