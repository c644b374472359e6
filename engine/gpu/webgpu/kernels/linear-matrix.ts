/**
 * Plans linear-matrix.wgsl: linears of steps with many columns on matrix units, beside the plan of linear.ts that smaller steps keep. Inputs become
 * halves in a dispatch of their own (halve-input.wgsl); so does, once, the range of each weight's rows (row-range.wgsl). Which weights qualify, and
 * nothing of when the mode is on: that is matrix-units.ts.
 */
import type { WeightSpec } from '../../program.ts'
import type { BindingAccess, BufferSlice } from '../kernel.ts'
import { type MatrixMode, type MatrixPlan, type MatrixTile, paddedElements, PLACE_HALVES, tileFor, workgroupOf } from '../matrix-units.ts'
import { type Dispatch, extentOf, MAX_GRID, type PlanContext, single, strideOf } from '../plan.ts'
import type { ShaderConstants } from '../shader.ts'
import { bitsOf, type DeviceMatrix } from '../weights.ts'
import type { Linear } from './linear.ts'
import { COMMON_IMMEDIATES, shardDispatch } from './linear-shard.ts'
import { multipliesIntegers } from './prepare-input.ts'
import { fill } from './rowwise.ts'
import { type FormatFacts, formatBuffers, formatFacts, weightBytes } from './weight-format.ts'

const RANGE_WORKGROUP = 64

/**
 * Whether matrix units may multiply this linear. Not f32 weights, which would lose more than half of their bits; not 8-bit integers by 8-bit
 * integers, which are exact as they are; not scale groups that end inside four elements.
 */
export function takesMatrixUnits(operation: Linear): boolean {
  const { format, cols } = operation.weight
  if (bitsOf(format) === 32 || multipliesIntegers(operation)) return false
  return formatFacts(format, cols).constants['GROUP_SINGLE'] === undefined
}

/** Dense halves are multiplied as they are stored, without a scale a row. */
function isCopied({ format }: WeightSpec, sparse: boolean): boolean {
  return format.kind === 'dense' && format.dtype === 'f16' && !sparse
}

function tileConstants(mode: MatrixMode, tile: MatrixTile, weight: WeightSpec, facts: FormatFacts): ShaderConstants {
  const { units, stage } = mode
  const workgroup = workgroupOf(units, tile)
  const columns = tile.columns / tile.gridColumns
  const rows = tile.rows / tile.gridRows
  return {
    MATRIX: true,
    ...(units.emulated ? { EMULATED: true } : {}),
    SUBGROUP_LANES: units.lanes,
    WORKGROUP: workgroup,
    UNIT_M: units.m,
    UNIT_N: units.n,
    UNIT_K: units.k,
    TILE_COLUMNS: tile.columns,
    TILE_ROWS: tile.rows,
    STAGE_ELEMENTS: stage,
    STEPS: Math.ceil(weight.cols / stage),
    BUFFERS: tile.buffers,
    ...(tile.buffers === 1 ? { SINGLE: true } : {}),
    ...(tile.direct ? { DIRECT: true } : {}),
    TEAMS: tile.gridColumns * tile.gridRows,
    GRID_ROWS: tile.gridRows,
    COLUMNS: columns,
    ROWS: rows,
    FRAGMENTS_M: columns / units.m,
    FRAGMENTS_N: rows / units.n,
    FRAGMENTS_K: stage / units.k,
    WEIGHT_LOADS: Math.ceil((tile.rows * stage) / facts.unitElements / workgroup),
    X_LOADS: Math.ceil((tile.columns * stage) / PLACE_HALVES / workgroup),
    X_PLACES: paddedElements(mode, weight.cols) / PLACE_HALVES,
    UNIT_PLACES: facts.unitElements / PLACE_HALVES,
    SCALES_BINDING: 4 + facts.bindings.length,
    ...facts.constants,
  }
}

/**
 * The dispatches of a linear on matrix units, which run nothing in steps of fewer columns than the mode begins with: the inputs' halves, then one
 * dispatch per shard. `input` is [columns, cols] f32 in rows of whole vec4s.
 */
export async function planMatrixProducts(
  context: PlanContext,
  mode: MatrixPlan,
  operation: Linear,
  input: BufferSlice,
): Promise<readonly Dispatch[]> {
  const { weight, bias, gated = false, x, out } = operation
  const matrix = context.matrix(weight)
  const facts = formatFacts(weight.format, weight.cols, matrix.sparse)
  const copied = isCopied(weight, matrix.sparse)
  const bindings: readonly BindingAccess[] = [
    'read',
    'read',
    'write',
    'read',
    ...facts.bindings,
    'read',
    ...(copied ? [] : ['read' as const]),
  ]
  const [halve, ...kernels] = await Promise.all([
    context.kernel({
      name: 'halve-input',
      constants: {
        WORKGROUP: context.tuning.rowWorkgroup,
        WIDTH: weight.cols,
        X_STRIDE: strideOf(weight.cols),
        X_PLACES: paddedElements(mode, weight.cols) / PLACE_HALVES,
      },
      bindings: ['read', 'write', 'write'],
      immediateWords: 0,
    }),
    ...mode.tiles.map((tile) =>
      context.kernel({
        name: 'linear-matrix',
        constants: {
          ...tileConstants(mode, tile, weight, facts),
          RESULTS: tile.rows / tile.gridRows / (gated ? 2 : 1),
          ...(gated ? { GATED: true } : {}),
          ...(copied ? { COPY: true } : {}),
        },
        bindings,
        immediateWords: COMMON_IMMEDIATES,
      }),
    ),
  ])
  const inputs = single(halve, context.variant(halve, [input, mode.inputs, mode.inputScales]), {
    prepare(step, grid) {
      const columns = extentOf(x, step)
      return columns < mode.leastColumns ? -1 : fill(grid, columns, 1)
    },
    cost: (step) => ({ bytes: 6 * weight.cols * extentOf(x, step), operations: 2 * weight.cols * extentOf(x, step) }),
  })
  const biasSlice = bias === null ? context.nothing : { buffer: context.vector(bias).buffer }
  const totalBytes = weightBytes(matrix)
  const products = matrix.shards.map((shard): Dispatch => {
    const buffers = [
      { buffer: shard.buffer },
      mode.inputs,
      context.value(out),
      biasSlice,
      ...formatBuffers(matrix, shard),
      mode.inputScales,
      ...(copied ? [] : [mode.rowScales(weight.id)]),
    ]
    const dispatch = shardDispatch(operation, shard, totalBytes, [])
    return {
      ...dispatch,
      prepare(step, grid) {
        const columns = extentOf(out, step)
        if (columns < mode.leastColumns) return -1
        dispatch.prepare(step, grid) // the immediates
        const index = tileFor(mode, columns, shard.rows)
        const tile = mode.tiles[index]
        if (tile === undefined) return -1
        // Tiles of the same weights follow each other: weights are read from memory once, and inputs stay in cache.
        fill(grid, Math.ceil(columns / tile.columns), Math.ceil(shard.rows / tile.rows))
        return index
      },
      kernel: `linear ${weight.format.kind === 'dense' ? weight.format.dtype : `${bitsOf(weight.format)} bits`}${gated ? ' gated' : ''}, matrix units`,
      variants: kernels.map((kernel) => context.variant(kernel, buffers)),
    }
  })
  return [inputs, ...products]
}

/** The same dispatches for steps below the mode's beginning only. */
export function belowMatrixUnits(dispatches: readonly Dispatch[], mode: MatrixMode, { x }: Linear): readonly Dispatch[] {
  return dispatches.map((dispatch) => ({
    ...dispatch,
    prepare: (step, grid) => (extentOf(x, step) < mode.leastColumns ? dispatch.prepare(step, grid) : -1),
  }))
}

/** What finds the scales of a weight's rows: run once, when the weight is on the device. Null for weights that need none. */
export async function planRowRange(
  context: Pick<PlanContext, 'kernel' | 'variant' | 'nothing'>,
  matrix: DeviceMatrix,
  scales: BufferSlice,
): Promise<readonly Dispatch[] | null> {
  const { spec } = matrix
  if (isCopied(spec, matrix.sparse)) return null
  const facts = formatFacts(spec.format, spec.cols, matrix.sparse)
  const kernel = await context.kernel({
    name: 'row-range',
    constants: { MATRIX: true, WORKGROUP: RANGE_WORKGROUP, GRID: MAX_GRID, ...facts.constants },
    bindings: ['read', 'read', 'write', 'read', ...facts.bindings],
    immediateWords: COMMON_IMMEDIATES,
  })
  return matrix.shards.map((shard): Dispatch => {
    const buffers = [{ buffer: shard.buffer }, context.nothing, scales, context.nothing, ...formatBuffers(matrix, shard)]
    return {
      kernel: 'row range',
      variants: [context.variant(kernel, buffers)],
      immediates: new Uint32Array([0, shard.firstRow, shard.rows, 0, 0, 0]),
      prepare: (_, grid) => fill(grid, Math.min(shard.rows, MAX_GRID), Math.ceil(shard.rows / MAX_GRID)),
      cost: () => ({ bytes: weightBytes(matrix), operations: 0 }),
    }
  })
}
