/**
 * Round to nearest of a block of rows straight from its stored bytes, with the SIMD kernels where groups allow (multiples of 4 columns) and
 * the plain JavaScript of round-to-nearest.ts elsewhere. Which one runs depends on shapes alone, so results never depend on the machine.
 * Scales and zero points are computed here, per group, by the same functions that the plain version uses.
 */
import { widenToF32 } from '../../../checkpoint/dtypes.ts'
import type { DenseDtype } from '../../../checkpoint/dtypes.ts'
import type { Observer } from '../../recipe.ts'
import { columnsPerScale } from '../../scheme.ts'
import type { IntegerScheme } from '../../scheme.ts'
import type { ErrorSums } from '../error-sums.ts'
import { integerGrid, limitScale, scaleOfRange, zeroPointOfRange } from '../integer-grid.ts'
import type { IntegerGrid } from '../integer-grid.ts'
import { searchScale, shrinkFactors } from '../mse-scale-search.ts'
import { roundToNearest, roundingScratch } from '../round-to-nearest.ts'
import type { QuantizedRows } from '../round-to-nearest.ts'
import { CANDIDATE_BYTES, PAGE_BYTES, PARAMETER_BYTES, RANGE_BYTES, SUMS_BYTES, compileKernels, createMemory } from './kernels.ts'
import type { Kernels, WasmMemory } from './kernels.ts'

export interface BlockRounder {
  /** `bytes` is [rows, cols] of `dtype`, cols a multiple of the group size. The result is valid until the next call. */
  round(bytes: Uint8Array, rows: number, cols: number, scheme: IntegerScheme, dtype: DenseDtype, observer: Observer): QuantizedRows
}

/** Groups whose candidates are prepared at a time: few enough to stay in the cache. */
const SEARCH_GROUPS = 512

/** Below this range the kernel's f32 reciprocals and squares would leave f32; such groups keep their full range. No model has any. */
const SMALLEST_SEARCHED = 2 ** -60

interface Layout {
  readonly source: number
  readonly values: number
  readonly codes: number
  readonly ranges: number
  readonly parameters: number
  readonly candidates: number
  readonly best: number
  readonly sums: number
  readonly end: number
}

export function createBlockRounder(): BlockRounder {
  const memory = createMemory(PAGE_BYTES)
  const kernels = compileKernels(memory)
  const scratch = roundingScratch()
  return {
    round(bytes, rows, cols, scheme, dtype, observer) {
      const perScale = columnsPerScale(scheme, cols)
      if (perScale % 4 !== 0) return roundToNearest(widenToF32(bytes, dtype), rows, cols, scheme, dtype, observer, scratch)
      const count = rows * cols
      const groups = count / perScale
      if (bytes.byteLength !== count * (dtype === 'F32' ? 4 : 2) || !Number.isInteger(groups)) {
        throw new RangeError(`${bytes.byteLength} bytes of ${dtype} for ${rows} × ${cols} in groups of ${perScale}`)
      }
      if (observer.kind === 'imatrix') throw new RangeError('The importance-weighted search runs with calibration, not on single blocks')
      const factors = observer.kind === 'mse' ? shrinkFactors(observer) : [1]
      const layout = layoutOf(count, groups, factors.length)
      reserve(memory, layout.end)
      const values = loadValues(memory, kernels, layout, bytes, dtype, count)
      const grid = integerGrid(scheme, dtype)
      kernels.ranges(layout.values, groups, perScale, layout.ranges)
      if (observer.kind === 'minmax') fitRanges(memory, layout, groups, grid)
      else if (observer.norm === 2) searchGroups(memory, kernels, layout, groups, perScale, grid, factors)
      else searchPlain(memory, layout, values, groups, perScale, grid, factors, observer.norm)
      new Uint8Array(memory.buffer, layout.sums, SUMS_BYTES).fill(0)
      kernels.quantize(layout.values, groups, perScale, layout.parameters, layout.codes, layout.sums, grid.qmin, grid.qmax)
      const parameters = new Float32Array(memory.buffer, layout.parameters, (groups * PARAMETER_BYTES) / 4)
      if (scratch.scales.length < groups) scratch.scales = new Float32Array(groups)
      if (scratch.zeroPoints.length < groups) scratch.zeroPoints = new Int8Array(groups)
      for (let group = 0; group < groups; group++) {
        scratch.scales[group] = parameters[group * 4] as number
        scratch.zeroPoints[group] = parameters[group * 4 + 1] as number
      }
      return {
        rows,
        cols,
        codes: new Int8Array(memory.buffer, layout.codes, count),
        scales: scratch.scales.subarray(0, groups),
        zeroPoints: scheme.symmetric ? null : scratch.zeroPoints.subarray(0, groups),
        error: readSums(memory, layout),
      }
    },
  }
}

function layoutOf(count: number, groups: number, candidates: number): Layout {
  let end = 0
  const place = (bytes: number): number => {
    const at = end
    end = Math.ceil((end + bytes) / 16) * 16
    return at
  }
  const chunk = Math.min(groups, SEARCH_GROUPS)
  return {
    source: place(count * 2),
    values: place(count * 4),
    codes: place(count),
    ranges: place(groups * RANGE_BYTES),
    parameters: place(groups * PARAMETER_BYTES),
    candidates: place(chunk * candidates * CANDIDATE_BYTES),
    best: place(chunk * 4),
    sums: place(SUMS_BYTES),
    end,
  }
}

function reserve(memory: WasmMemory, bytes: number): void {
  const missing = bytes - memory.buffer.byteLength
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE_BYTES))
}

function loadValues(
  memory: WasmMemory,
  kernels: Kernels,
  layout: Layout,
  bytes: Uint8Array,
  dtype: DenseDtype,
  count: number,
): Float32Array {
  const values = new Float32Array(memory.buffer, layout.values, count)
  if (dtype !== 'BF16') return widenToF32(bytes, dtype, values)
  new Uint8Array(memory.buffer, layout.source, bytes.byteLength).set(bytes)
  kernels.widenBf16(layout.source, layout.values, count)
  return values
}

/** Lowest and highest weight of a group, zero included, from the kernel's partial results. */
function lowOf(ranges: Float32Array, group: number): number {
  const at = group * 8
  return Math.min(ranges[at] as number, ranges[at + 1] as number, ranges[at + 2] as number, ranges[at + 3] as number)
}

function highOf(ranges: Float32Array, group: number): number {
  const at = group * 8 + 4
  return Math.max(ranges[at] as number, ranges[at + 1] as number, ranges[at + 2] as number, ranges[at + 3] as number)
}

function fitRanges(memory: WasmMemory, layout: Layout, groups: number, grid: IntegerGrid): void {
  const ranges = new Float32Array(memory.buffer, layout.ranges, groups * 8)
  const parameters = new Float32Array(memory.buffer, layout.parameters, groups * 4)
  for (let group = 0; group < groups; group++) {
    const lo = lowOf(ranges, group)
    const scale = scaleOfRange(lo, highOf(ranges, group), grid)
    const zeroPoint = zeroPointOfRange(lo, scale, grid)
    parameters[group * 4] = limitScale(scale, zeroPoint, grid)
    parameters[group * 4 + 1] = zeroPoint
  }
}

function searchGroups(
  memory: WasmMemory,
  kernels: Kernels,
  layout: Layout,
  groups: number,
  perScale: number,
  grid: IntegerGrid,
  factors: readonly number[],
): void {
  const ranges = new Float32Array(memory.buffer, layout.ranges, groups * 8)
  const parameters = new Float32Array(memory.buffer, layout.parameters, groups * 4)
  const words = CANDIDATE_BYTES / 4
  const chunkMax = Math.min(groups, SEARCH_GROUPS)
  const candidates = new Float32Array(memory.buffer, layout.candidates, chunkMax * factors.length * words)
  const squares = new Float64Array(memory.buffer, layout.candidates, (chunkMax * factors.length * words) / 2)
  const best = new Int32Array(memory.buffer, layout.best, chunkMax)
  for (let first = 0; first < groups; first += chunkMax) {
    const chunk = Math.min(chunkMax, groups - first)
    let at = 0
    for (let group = first; group < first + chunk; group++) {
      const lo = lowOf(ranges, group)
      const hi = highOf(ranges, group)
      const searchable = hi - lo >= SMALLEST_SEARCHED
      for (const each of factors) {
        const factor = searchable ? each : 1
        const low = Math.fround(lo * factor)
        const unlimited = scaleOfRange(low, Math.fround(hi * factor), grid)
        const zeroPoint = zeroPointOfRange(low, unlimited, grid)
        const scale = limitScale(unlimited, zeroPoint, grid)
        candidates[at] = 1 / scale
        candidates[at + 1] = grid.qmin - zeroPoint
        candidates[at + 2] = grid.qmax - zeroPoint
        candidates[at + 3] = scale
        squares[at / 2 + 2] = scale * scale
        at += words
      }
    }
    kernels.search(layout.values + first * perScale * 4, chunk, perScale, layout.candidates, factors.length, layout.best)
    for (let i = 0; i < chunk; i++) {
      const chosen = (i * factors.length + (best[i] as number)) * words
      parameters[(first + i) * 4] = candidates[chosen + 3] as number
      parameters[(first + i) * 4 + 1] = grid.qmin - (candidates[chosen + 1] as number)
    }
  }
}

/** Norms other than 2 are searched without SIMD. */
function searchPlain(
  memory: WasmMemory,
  layout: Layout,
  values: Float32Array,
  groups: number,
  perScale: number,
  grid: IntegerGrid,
  factors: readonly number[],
  norm: number,
): void {
  const ranges = new Float32Array(memory.buffer, layout.ranges, groups * 8)
  const parameters = new Float32Array(memory.buffer, layout.parameters, groups * 4)
  for (let group = 0; group < groups; group++) {
    const start = group * perScale
    const found = searchScale(values, start, start + perScale, lowOf(ranges, group), highOf(ranges, group), grid, factors, norm)
    parameters[group * 4] = found.scale
    parameters[group * 4 + 1] = found.zeroPoint
  }
}

function readSums(memory: WasmMemory, layout: Layout): ErrorSums {
  const sums = new Float64Array(memory.buffer, layout.sums, SUMS_BYTES / 8)
  const both = (i: number): number => (sums[i * 2] as number) + (sums[i * 2 + 1] as number)
  return { source: both(0), error: both(1), cross: both(2), max: Math.max(sums[6] as number, sums[7] as number) }
}
