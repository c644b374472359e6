/**
 * A program as a flat list of dispatches, made once: pipelines compiled, bind groups cached, immediates laid out. A step only fills in what
 * depends on its size and walks the list (specs/webgpu-kernels.md §h). Each kernel's own file knows how to plan it.
 */
import type { Accumulator, Capacity, InputQuantization, KvLayout, RopeTable, Value, WeightSpec } from '../program.ts'
import type { AccumulatorShard } from './accumulators.ts'
import type { LogitAdjuster } from './adjuster.ts'
import type { GpuDevice } from './device.ts'
import type { BufferSlice, Kernel, KernelSpec } from './kernel.ts'
import type { KvBuffers } from './kv-cache.ts'
import type { MatrixPlan } from './matrix-units.ts'
import type { Tuning } from './tuning.ts'
import type { DeviceMatrix, DeviceVector } from './weights.ts'

/** What dispatch sizes depend on. */
export interface StepShape {
  readonly tokens: number
  readonly rows: number
  /** Longest context after the step, over its sequences. */
  readonly longestContext: number
  readonly topCount: number
  /** Whether any row without adjustment samples with a temperature. */
  readonly samples: boolean
  /** Whether any row's logits are adjusted, and the most edits of one. */
  readonly adjusts: boolean
  readonly mostEdits: number
}

export interface KernelCost {
  /** Bytes that must move between memory and processor at least once. */
  readonly bytes: number
  /** Multiplications and additions, counted separately. */
  readonly operations: number
}

export interface DispatchVariant {
  readonly pipeline: GPUComputePipeline
  readonly bindGroup: GPUBindGroup
}

export interface Dispatch {
  readonly kernel: string
  readonly variants: readonly DispatchVariant[]
  /** Set before the dispatch when not empty. `prepare` fills in what depends on the step. */
  readonly immediates: Uint32Array<ArrayBuffer>
  /** Writes the grid (x, y, z) and the immediates; returns the variant to run, or −1 to run nothing. */
  prepare(shape: StepShape, grid: Uint32Array): number
  cost(shape: StepShape): KernelCost
}

/** Per-step inputs, each a word array inside one uploaded buffer. */
export interface StepSlices {
  readonly tokenIds: BufferSlice
  readonly positions: BufferSlice
  readonly slots: BufferSlice
  readonly sequenceOfToken: BufferSlice
  readonly logitRows: BufferSlice
  readonly targets: BufferSlice
  readonly samplers: BufferSlice
  readonly blockTable: BufferSlice
}

/** Buffers between the logits kernels and the host. */
export interface LogitsBuffers {
  readonly chunks: GPUBuffer
  readonly rowFacts: GPUBuffer
  readonly results: GPUBuffer
  readonly topPairs: GPUBuffer
  readonly tops: GPUBuffer
}

/** All that planning an operation may ask for. */
export interface PlanContext {
  readonly gpu: GpuDevice
  readonly tuning: Tuning
  readonly capacity: Capacity
  readonly kvLayout: KvLayout
  readonly kv: KvBuffers
  readonly step: StepSlices
  /** Bound where a kernel's binding is unused. */
  readonly nothing: BufferSlice
  readonly attentionScratch: GPUBuffer
  /** Inputs as linears multiply them, where they are not used as they are (kernels/prepare-input.ts). */
  readonly inputScratch: { readonly values: BufferSlice; readonly scales: BufferSlice }
  readonly adjuster: LogitAdjuster
  /** Null unless matrix units were asked for. */
  readonly matrixUnits: MatrixPlan | null
  kernel(spec: KernelSpec): Promise<Kernel>
  variant(kernel: Kernel, buffers: readonly BufferSlice[]): DispatchVariant
  value(value: Value): BufferSlice
  matrix(spec: WeightSpec): DeviceMatrix
  vector(spec: WeightSpec): DeviceVector
  rope(table: RopeTable): BufferSlice
  accumulator(accumulator: Accumulator): readonly AccumulatorShard[]
  /** The number that a quantization stores; 0 where it stores none. */
  staticScale(quantization: InputQuantization): number
}

/** Words from one row of a value to the next: rows start at 16 bytes, so that kernels may load vec4. */
export function strideOf(width: number): number {
  return Math.ceil(width / 4) * 4
}

/** Rows of a value in a step, or the most of them at a capacity. */
export function extentOf({ extent }: Pick<Value, 'extent'>, of: Pick<StepShape, 'tokens' | 'rows'>): number {
  return extent === 'tokens' ? of.tokens : extent === 'rows' ? of.rows : extent
}

/** WebGPU's limit on workgroups in one dimension; tokens and rows are grid dimensions. */
export const MAX_GRID = 65535

export const NO_IMMEDIATES = new Uint32Array(0)

/** Makes the compile functions below shorter: a kernel with one variant and a grid. */
export function single(
  kernel: Kernel,
  variant: DispatchVariant,
  parts: { immediates?: Uint32Array<ArrayBuffer>; prepare: Dispatch['prepare']; cost: Dispatch['cost'] },
): Dispatch {
  return {
    kernel: kernel.spec.name,
    variants: [variant],
    immediates: parts.immediates ?? NO_IMMEDIATES,
    prepare: parts.prepare,
    cost: parts.cost,
  }
}
