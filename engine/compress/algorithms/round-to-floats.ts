/**
 * Round to nearest for the floating-point schemes, over units of any shape: rows, groups of columns, blocks, the whole matrix
 * (specs/compressed-tensors.md §6.1, §6.3–6.5). What round-to-nearest.ts is for integers, without its speed: one pass for the range, one for
 * the codes, and with the MSE observer one for every candidate range. Works on finite f32 values; the caller answers for that.
 */
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import type { Observer } from '../recipe.ts'
import { columnsPerScale, rowsPerScale } from '../scheme.ts'
import type { FloatScheme } from '../scheme.ts'
import { nvfp4GlobalScale, weightGrid } from '../weight-grid.ts'
import type { GroupParameters, WeightGrid } from '../weight-grid.ts'
import { noError } from './error-sums.ts'
import type { ErrorSums } from './error-sums.ts'
import { shrinkFactors } from './mse-scale-search.ts'
import type { QuantizedRows } from './round-to-nearest.ts'

/** Rows × columns that share a scale. */
interface Unit {
  readonly firstRow: number
  readonly endRow: number
  readonly firstCol: number
  readonly endCol: number
}

/**
 * `values` is [rows, cols]; for FP8_BLOCK the first row starts a block. `weightMaximum` is max |w| as `schemeNeeds` asks for it (of the whole
 * matrix, or jointly with its fused partners); null takes that of `values`. `importance` as for `roundToNearest`.
 */
export function roundToFloats(
  values: Float32Array,
  rows: number,
  cols: number,
  scheme: FloatScheme,
  dtype: DenseDtype,
  observer: Observer,
  weightMaximum: number | null = null,
  importance: Float64Array | null = null,
): QuantizedRows {
  const width = columnsPerScale(scheme, cols)
  const height = rowsPerScale(scheme, rows)
  if (values.length !== rows * cols || (scheme.kind !== 'fp8' && cols % width !== 0)) {
    throw new RangeError(`${values.length} values for ${rows} × ${cols} in groups of ${width}`)
  }
  if (observer.kind === 'imatrix' && importance?.length !== cols) {
    throw new RangeError(`The importance of ${cols} columns is needed, got that of ${importance?.length ?? 'none'}`)
  }
  const weights = observer.kind === 'imatrix' ? importance : null
  const perTensor = scheme.kind === 'fp8' && scheme.strategy === 'tensor'
  const maximum = scheme.kind === 'nvfp4' || perTensor ? (weightMaximum ?? absmax(values)) : 0
  const globalScale = scheme.kind === 'nvfp4' ? nvfp4GlobalScale(maximum) : null
  const grid = weightGrid(scheme, dtype, globalScale ?? 1)
  const unitsPerRow = Math.ceil(cols / width)
  const codes = new Int8Array(values.length)
  const scales = new Float32Array(Math.ceil(rows / height) * unitsPerRow)
  const factors = observer.kind === 'minmax' ? [1] : shrinkFactors(observer)
  const norm = observer.kind === 'minmax' ? 2 : observer.norm
  const error = noError()
  for (let index = 0; index < scales.length; index++) {
    const firstRow = Math.floor(index / unitsPerRow) * height
    const firstCol = (index % unitsPerRow) * width
    const unit = { firstRow, endRow: Math.min(rows, firstRow + height), firstCol, endCol: Math.min(cols, firstCol + width) }
    // One scale for the whole matrix is not searched: blocks of rows must agree on it, and none sees them all.
    const parameters = perTensor ? grid.fit(-maximum, maximum) : search(values, cols, unit, grid, factors, norm, weights)
    scales[index] = parameters.scale
    quantizeUnit(values, cols, unit, grid, parameters, codes, error)
  }
  return { rows, cols, codes, scales, zeroPoints: null, globalScale, error }
}

/** Largest magnitude. */
export function absmax(values: Float32Array): number {
  let largest = 0
  for (const value of values) {
    const magnitude = Math.abs(value)
    if (magnitude > largest) largest = magnitude
  }
  return largest
}

/** The parameters with the least Σ weight·|w − ŵ|^norm among the shrunk ranges, the widest of equals. */
function search(
  values: Float32Array,
  cols: number,
  unit: Unit,
  grid: WeightGrid,
  factors: readonly number[],
  norm: number,
  weights: Float64Array | null,
): GroupParameters {
  let largest = 0
  for (let row = unit.firstRow; row < unit.endRow; row++) {
    for (let i = row * cols + unit.firstCol; i < row * cols + unit.endCol; i++) largest = Math.max(largest, Math.abs(values[i] as number))
  }
  let best = grid.fit(-largest, largest)
  if (factors.length === 1) return best
  let bestError = Infinity
  let previous = 0
  for (const factor of factors) {
    const range = Math.fround(largest * factor)
    const candidate = grid.fit(-range, range)
    if (candidate.scale === previous) continue
    previous = candidate.scale
    const error = unitError(values, cols, unit, grid, candidate, norm, weights, bestError)
    if (error < bestError) {
      bestError = error
      best = candidate
    }
  }
  return best
}

function unitError(
  values: Float32Array,
  cols: number,
  unit: Unit,
  grid: WeightGrid,
  parameters: GroupParameters,
  norm: number,
  weights: Float64Array | null,
  giveUpAbove: number,
): number {
  let sum = 0
  for (let row = unit.firstRow; row < unit.endRow; row++) {
    for (let i = row * cols + unit.firstCol; i < row * cols + unit.endCol; i++) {
      const w = values[i] as number
      const e = Math.abs(w - grid.value(grid.code(w, parameters), parameters))
      sum += (norm === 2 ? e * e : e ** norm) * (weights === null ? 1 : (weights[i - row * cols] as number))
    }
    if (sum >= giveUpAbove) return Infinity
  }
  return sum
}

function quantizeUnit(
  values: Float32Array,
  cols: number,
  unit: Unit,
  grid: WeightGrid,
  parameters: GroupParameters,
  codes: Int8Array,
  sums: ErrorSums,
): void {
  for (let row = unit.firstRow; row < unit.endRow; row++) {
    for (let i = row * cols + unit.firstCol; i < row * cols + unit.endCol; i++) {
      const w = values[i] as number
      const code = grid.code(w, parameters)
      codes[i] = code
      const e = w - grid.value(code, parameters)
      sums.source += w * w
      sums.error += e * e
      sums.cross += w * e
      const magnitude = Math.abs(e)
      if (magnitude > sums.max) sums.max = magnitude
    }
  }
}
