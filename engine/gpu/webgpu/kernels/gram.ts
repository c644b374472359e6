/**
 * Statistics of activations: sum += xᵀ·x by tiles of its lower triangle, and sums per column. Shapes of the first, as for linears: tiles
 * staged in shared memory for GPUs, wide ones where a matrix has enough of them; register tiles straight from memory for CPUs, where every
 * barrier costs.
 */
import type { Operation } from '../../program.ts'
import { SHARD_ROW_MULTIPLE } from '../accumulators.ts'
import { type Dispatch, extentOf, type PlanContext, single, strideOf } from '../plan.ts'
import { fill } from './rowwise.ts'

type Op<K extends Operation['op']> = Extract<Operation, { op: K }>

/** Rows and columns of a tile, and the tokens staged at a time; gram.wgsl's 256 invocations own 4 × 4 sums each. */
const TILE = SHARD_ROW_MULTIPLE
const STAGED_TOKENS = 16
/** The same of gram-wide.wgsl, whose invocations own 8 × 8. */
const WIDE_TILE = 128
/** Rows and quads of columns that an invocation of gram-rows owns: 4 × 16 sums in registers. */
const ROWS_TILE = { rows: 4, quads: 4, workgroup: 16 } as const

/** Bindings: x, sums. One dispatch per shard. */
export async function planGram(context: PlanContext, { x, out }: Op<'gram'>): Promise<readonly Dispatch[]> {
  const { width } = out
  const staged = context.tuning.linear.family === 'lanes'
  const wide = staged && width >= context.tuning.gram.wideFrom
  const tile = wide ? WIDE_TILE : TILE
  const quads = strideOf(width) / 4
  const kernel = await context.kernel({
    name: wide ? 'gram-wide' : staged ? 'gram' : 'gram-rows',
    constants: staged ? { STAGED_TOKENS } : { WORKGROUP: ROWS_TILE.workgroup, COLUMN_QUADS: ROWS_TILE.quads },
    bindings: ['read', 'write'],
    immediateWords: 5,
  })
  return context.accumulator(out).map((shard) => {
    const immediates = new Uint32Array([0, shard.firstRow, shard.rows, width, quads])
    return single(kernel, context.variant(kernel, [context.value(x), { buffer: shard.buffer }]), {
      immediates,
      prepare(step, grid) {
        immediates[0] = extentOf(x, step)
        // Columns right of the shard's last diagonal element belong to the upper triangle.
        const columns = Math.min(width, shard.firstRow + shard.rows)
        if (staged) return fill(grid, Math.ceil(columns / tile), Math.ceil(shard.rows / tile))
        const across = Math.ceil(columns / (4 * ROWS_TILE.quads))
        return fill(grid, Math.ceil(across / ROWS_TILE.workgroup), Math.ceil(shard.rows / ROWS_TILE.rows))
      },
      cost: (step) => ({
        bytes: 4 * (extentOf(x, step) * width + shard.rows * width),
        operations: extentOf(x, step) * shard.rows * (2 * shard.firstRow + shard.rows),
      }),
    })
  })
}

/** Bindings: x, sums [4, width]. One invocation per column. */
export async function planColumnSums(context: PlanContext, { x, out }: Op<'columnSums'>): Promise<readonly Dispatch[]> {
  const { width } = out
  const kernel = await context.kernel({
    name: 'column-sums',
    constants: { WORKGROUP: context.tuning.headWorkgroup },
    bindings: ['read', 'write'],
    immediateWords: 3,
  })
  return context.accumulator(out).map((shard) => {
    const immediates = new Uint32Array([0, width, strideOf(width)])
    return single(kernel, context.variant(kernel, [context.value(x), { buffer: shard.buffer }]), {
      immediates,
      prepare(step, grid) {
        immediates[0] = extentOf(x, step)
        return fill(grid, Math.ceil(width / context.tuning.headWorkgroup), 1)
      },
      cost: (step) => ({ bytes: 4 * width * (extentOf(x, step) + 8), operations: 5 * width * extentOf(x, step) }),
    })
  })
}
