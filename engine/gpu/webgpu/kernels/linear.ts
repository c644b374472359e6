/**
 * out[column, outOffset + row] (+)= Σ_k weight[row, k] · x[column, k] (+ bias[row]), in two families chosen per adapter (tuning.ts):
 * linear-rows for CPUs, linear-lanes for GPUs. One dispatch per weight shard. The number of columns selects a tile width, never an order of
 * additions: every width gives the same bits. Matrix units, where somebody asks for them, take the wide steps instead (linear-matrix.ts).
 */
import type { Operation, WeightSpec } from '../../program.ts'
import type { BufferSlice } from '../kernel.ts'
import type { Dispatch, PlanContext } from '../plan.ts'
import { strideOf } from '../plan.ts'
import type { ShaderConstants } from '../shader.ts'
import type { Tuning } from '../tuning.ts'
import { groupsOf } from '../weights.ts'
import { planIntegerProducts } from './linear-int8.ts'
import { belowMatrixUnits, planMatrixProducts, takesMatrixUnits } from './linear-matrix.ts'
import { COMMON_IMMEDIATES, nextPowerOfTwo, shardDispatch } from './linear-shard.ts'
import { multipliesIntegers, needsPreparation, planInput } from './prepare-input.ts'
import { type FormatFacts, formatBuffers, formatFacts, weightBytes } from './weight-format.ts'

/** `gated`: rows are gates, then as many others; out = silu(gate) · up, half as wide as the weight has rows (gated.ts). */
export type Linear = Extract<Operation, { op: 'linear' }> & { readonly gated?: true }

/** Sums of this many products before they join the row's sum: keeps the error of a long row near that of a short one. */
const CHUNK_ELEMENTS = 128

interface LinearShape {
  readonly constants: ShaderConstants
  /** Immediates after those that both families have. */
  readonly extraImmediates: readonly number[]
  /** Rows of the weight per workgroup. */
  readonly rowsPerGroup: number
}

/** linear-rows: every length is an immediate, so that a format's pipelines serve all of a model's shapes (a compile costs a CPU seconds). */
function rowsShape(
  tuning: Tuning['linear'],
  facts: FormatFacts,
  weight: WeightSpec,
  columns: number,
  { gated, subgroupSize }: { readonly gated: boolean; readonly subgroupSize: number | null },
): LinearShape {
  const { workgroup, rows } = tuning
  const { format, cols } = weight
  const { granuleElements } = facts
  const groups = Math.max(1, groupsOf(format, cols))
  const groupSize = format.kind === 'dense' ? cols : format.groupSize
  const scaled = format.kind !== 'dense' && (groups === 1 || groupSize % granuleElements === 0)
  const chunk = scaled && groups > 1 && groupSize % CHUNK_ELEMENTS !== 0 ? groupSize : CHUNK_ELEMENTS
  return {
    constants: {
      WORKGROUP: workgroup,
      ROWS: rows,
      COLUMNS: columns,
      DYNAMIC: true,
      GRANULE_QUADS: granuleElements / 4,
      ...facts.storage,
      ...(format.kind === 'dense' ? {} : scaled ? { SCALED: true } : { GROUP_SINGLE: true }),
      ...(cols % granuleElements === 0 ? {} : { TAIL: true }),
      // One column is the same address for all lanes, which is loaded once anyway.
      ...(subgroupSize === null || columns === 1 || workgroup % subgroupSize !== 0
        ? {}
        : { SUBGROUP: subgroupSize, COLUMN_LOADS: Math.ceil(columns / subgroupSize) }),
    },
    extraImmediates: [
      cols,
      strideOf(cols) / 4,
      Math.ceil(cols / granuleElements),
      (facts.units * facts.unitElements) / granuleElements,
      chunk / granuleElements,
      groupSize,
      groups,
      (rows * columns) / (gated ? 2 : 1),
    ],
    rowsPerGroup: workgroup * rows,
  }
}

/** Columns whose lane sums are in workgroup memory at a time: a vec4 of them. */
const SUM_COLUMNS = 4

/** linear-lanes: the shape is compiled in; independent of the number of columns but for COLUMNS itself. */
function lanesShape(tuning: Tuning['linear'], facts: FormatFacts, weight: WeightSpec, columns: number): LinearShape {
  const { workgroup, rows } = tuning
  const lanes = Math.min(tuning.lanes, nextPowerOfTwo(facts.units))
  const depth = Math.max(1, Math.min(Math.floor(tuning.stageElements / facts.unitElements / lanes), Math.ceil(facts.units / lanes)))
  const teams = workgroup / lanes
  const quads = facts.unitElements / 4
  return {
    constants: {
      WORKGROUP: workgroup,
      ROWS: rows,
      COLUMNS: columns,
      LANES: lanes,
      TEAMS: teams,
      DEPTH: depth,
      STAGE_UNITS: lanes * depth,
      STAGE_LOADS: Math.ceil((lanes * depth * quads * columns) / workgroup),
      ...(columns === 1 ? {} : { AHEAD: true }),
      ...(columns === 1 || facts.constants['SPANS'] === undefined ? {} : { AHEAD_GAINS: true }),
      SUM_COLUMNS: Math.min(SUM_COLUMNS, columns),
      SUM_PASSES: Math.ceil(columns / SUM_COLUMNS),
      // An odd pitch spreads the lanes' strided 16-byte reads over all banks.
      PITCH: quads % 2 === 0 ? quads + 1 : quads,
      X_QUADS: strideOf(weight.cols) / 4,
      ...facts.constants,
      ...(weight.cols % facts.unitElements === 0 ? {} : { TAIL: true }),
    },
    extraImmediates: [],
    rowsPerGroup: teams * rows,
  }
}

/** Shared memory of linear-lanes: the stage, later the lanes' sums. */
function workgroupBytes({ constants }: LinearShape): number {
  if (constants['STAGE_UNITS'] === undefined) return 0
  const of = (name: string): number => Number(constants[name] ?? 0)
  const staged = 16 * of('STAGE_UNITS') * of('PITCH') * of('COLUMNS')
  const sums = of('WORKGROUP') * of('ROWS')
  return of('COLUMNS') === 1 ? staged + 4 * sums : Math.max(staged, 16 * sums)
}

/** Groups that straddle units cost a scale per four elements or per element: rare, and not worth the code of a wide tile. */
function narrow(tuning: Tuning['linear'], gated: boolean): Tuning['linear'] {
  return { ...tuning, rows: gated ? 2 : 1, columns: [1, 4], wide: null }
}

/** The tile of this many columns. */
function tileOf(tuning: Tuning['linear'], columns: number): Tuning['linear'] {
  return columns === tuning.columns[0] || tuning.wide === null ? tuning : { ...tuning, ...tuning.wide }
}

export async function planLinear(context: PlanContext, operation: Linear): Promise<readonly Dispatch[]> {
  if (needsPreparation(operation)) {
    const { dispatch, values, scales } = await planInput(context, operation)
    const rest = multipliesIntegers(operation)
      ? await planIntegerProducts(context, operation, { values, scales })
      : await planByColumns(context, operation, values)
    return [dispatch, ...rest]
  }
  return planByColumns(context, operation, context.value(operation.x))
}

/** Steps of many columns on matrix units, where that mode is on. */
async function planByColumns(context: PlanContext, operation: Linear, input: BufferSlice): Promise<readonly Dispatch[]> {
  const { matrixUnits: mode } = context
  if (mode === null || !takesMatrixUnits(operation)) return planProducts(context, operation, input)
  const [products, wide] = await Promise.all([planProducts(context, operation, input), planMatrixProducts(context, mode, operation, input)])
  return [...belowMatrixUnits(products, mode, operation), ...wide]
}

/** `input` is [columns, cols] in rows of whole vec4s. */
async function planProducts(context: PlanContext, operation: Linear, input: BufferSlice): Promise<readonly Dispatch[]> {
  const { weight, bias, gated = false } = operation
  const matrix = context.matrix(weight)
  const facts = formatFacts(weight.format, weight.cols, matrix.sparse)
  // A unit of sparse codes is unrolled whole in linear-rows: a wide tile of them would be minutes of compiling.
  const isLong = matrix.sparse && context.tuning.linear.family === 'rows'
  const tuning = facts.straddles || isLong ? narrow(context.tuning.linear, gated) : context.tuning.linear
  const shapeOf = (width: number): LinearShape => {
    const tile = tileOf(tuning, width)
    const { subgroupSize } = context.gpu
    const shape =
      tuning.family === 'rows' ? rowsShape(tile, facts, weight, width, { gated, subgroupSize }) : lanesShape(tile, facts, weight, width)
    return gated ? { ...shape, constants: { ...shape.constants, GATED: true } } : shape
  }
  const storageLimit = context.gpu.limits.maxComputeWorkgroupStorageSize
  const [, second] = tuning.columns
  // On an H200 a single column of sparse weights takes longer than four: it has no tile of its own.
  const least =
    matrix.sparse && tuning.family === 'lanes' && second !== undefined && workgroupBytes(shapeOf(second)) <= storageLimit ? 1 : 0
  const widths = tuning.columns.filter((width, index) => {
    if (index <= least) return index === least
    return width <= nextPowerOfTwo(context.capacity.tokens) && workgroupBytes(shapeOf(width)) <= storageLimit
  })
  const shapes = widths.map(shapeOf)
  const kernels = await Promise.all(
    shapes.map((shape) => {
      return context.kernel({
        name: `linear-${tuning.family}`,
        constants: shape.constants,
        bindings: ['read', 'read', 'write', 'read', ...facts.bindings],
        immediateWords: COMMON_IMMEDIATES + shape.extraImmediates.length,
      })
    }),
  )
  const biasSlice = bias === null ? context.nothing : { buffer: context.vector(bias).buffer }
  const totalBytes = weightBytes(matrix)
  const tiles = shapes.map((shape, i) => ({ ...shape, columns: widths[i] ?? 1 }))
  return matrix.shards.map((shard): Dispatch => {
    const buffers = [{ buffer: shard.buffer }, input, context.value(operation.out), biasSlice, ...formatBuffers(matrix, shard)]
    return {
      ...shardDispatch(operation, shard, totalBytes, tiles),
      kernel: `linear ${formatLabel(operation)}${matrix.sparse ? ' 2:4' : ''}${gated ? ' gated' : ''}`,
      variants: kernels.map((kernel) => context.variant(kernel, buffers)),
    }
  })
}

function formatLabel({ weight }: Linear): string {
  const { format } = weight
  if (format.kind === 'dense') return format.dtype
  const group = format.groupSize >= weight.cols ? 'channel' : `g${format.groupSize}`
  if (format.kind === 'packed-float') return `${format.element} ${group}`
  return `int${format.bits} ${group}${format.hasZeroPoint ? ' asymmetric' : ''}`
}
