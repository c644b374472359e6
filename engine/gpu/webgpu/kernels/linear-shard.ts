/**
 * What all linear kernels share of a dispatch: one per shard of the weight, the immediates that linear-bindings.wgsl and linear-int8.wgsl begin
 * with, the tile width that a step's columns take, and the cost. Knows no formats and no pipelines.
 */
import type { Operation } from '../../program.ts'
import { type Dispatch, extentOf, type StepShape, strideOf } from '../plan.ts'
import type { WeightShard } from '../weights.ts'

type Linear = Extract<Operation, { op: 'linear' }>

/** Word of the immediates that the step fills in; see linear-bindings.wgsl. */
const COLUMNS = 0
export const COMMON_IMMEDIATES = 6
const ACCUMULATE = 1
const HAS_BIAS = 2

/** One per tile width, ascending. */
export interface TileVariant {
  /** Columns of the tile. */
  readonly columns: number
  /** Rows of the weight per workgroup. */
  readonly rowsPerGroup: number
  /** Immediates after the common ones. */
  readonly extraImmediates: readonly number[]
}

export function nextPowerOfTwo(n: number): number {
  return 2 ** Math.ceil(Math.log2(n))
}

/** Everything of a shard's dispatch but its name and pipelines. `totalBytes` is what one reading of the whole weight moves. */
export function shardDispatch(
  operation: Linear,
  shard: WeightShard,
  totalBytes: number,
  tiles: readonly TileVariant[],
): Pick<Dispatch, 'immediates' | 'prepare' | 'cost'> {
  const { weight, out, bias } = operation
  const columnsOf = (step: StepShape): number => extentOf(out, step)
  const immediates = new Uint32Array([
    0,
    shard.firstRow,
    shard.rows,
    operation.outOffset,
    strideOf(out.width),
    (operation.accumulate ? ACCUMULATE : 0) | (bias === null ? 0 : HAS_BIAS),
    ...(tiles[0]?.extraImmediates ?? []),
  ])
  return {
    immediates,
    prepare(step, grid) {
      const columns = columnsOf(step)
      if (columns === 0) return -1
      let variant = tiles.findIndex((tile) => tile.columns >= columns)
      if (variant < 0) variant = tiles.length - 1
      const tile = tiles[variant]
      immediates[COLUMNS] = columns
      immediates.set(tile?.extraImmediates ?? [], COMMON_IMMEDIATES)
      grid[0] = Math.ceil(shard.rows / (tile?.rowsPerGroup ?? 1))
      grid[1] = Math.ceil(columns / (tile?.columns ?? 1))
      grid[2] = 1
      return variant
    },
    cost(step) {
      const columns = columnsOf(step)
      const share = shard.rows / weight.rows
      const activations = 4 * columns * (weight.cols + shard.rows * (operation.accumulate ? 2 : 1))
      return { bytes: totalBytes * share + activations, operations: 2 * columns * shard.rows * weight.cols }
    },
  }
}
