/**
 * out[column, outOffset + row] (+)= Σ_k weight[row, k] · x[column, k] (+ bias[row]), in two families chosen per adapter (tuning.ts):
 * linear-rows for CPUs, linear-lanes for GPUs. One dispatch per weight shard. The number of columns selects a tile width, never an order of
 * additions: every width gives the same bits.
 */
import type { Operation } from '../../program.ts'
import type { Dispatch, PlanContext, StepShape } from '../plan.ts'
import { strideOf } from '../plan.ts'
import type { KernelSpec } from '../kernel.ts'
import type { ShaderConstants } from '../shader.ts'
import type { Tuning } from '../tuning.ts'
import { type FormatFacts, formatBuffers, formatFacts, weightBytes } from './weight-format.ts'

type Linear = Extract<Operation, { op: 'linear' }>

/** Offsets into the immediates, in words; see linear-bindings.wgsl. */
const COLUMNS = 0
const IMMEDIATE_WORDS = 6

interface LinearShape {
  readonly family: 'rows' | 'lanes'
  readonly constants: ShaderConstants
  /** Rows of the weight per workgroup. */
  readonly rowsPerGroup: number
}

function nextPowerOfTwo(n: number): number {
  return 2 ** Math.ceil(Math.log2(n))
}

/** Constants of one family for a row of `facts.units` units; independent of the number of columns but for COLUMNS itself. */
export function linearShape(tuning: Tuning['linear'], facts: FormatFacts, columns: number): LinearShape {
  const { workgroup, rows } = tuning
  if (tuning.family === 'rows') {
    return { family: 'rows', constants: { WORKGROUP: workgroup, ROWS: rows, COLUMNS: columns }, rowsPerGroup: workgroup * rows }
  }
  const lanes = Math.min(tuning.lanes, nextPowerOfTwo(facts.units))
  const depth = Math.max(1, Math.min(Math.floor(tuning.stageElements / facts.unitElements / lanes), Math.ceil(facts.units / lanes)))
  const teams = workgroup / lanes
  const quads = facts.unitElements / 4
  return {
    family: 'lanes',
    constants: {
      WORKGROUP: workgroup,
      ROWS: rows,
      COLUMNS: columns,
      LANES: lanes,
      TEAMS: teams,
      DEPTH: depth,
      STAGE_UNITS: lanes * depth,
      // An odd pitch spreads the lanes' strided 16-byte reads over all banks.
      PITCH: quads % 2 === 0 ? quads + 1 : quads,
    },
    rowsPerGroup: teams * rows,
  }
}

export async function planLinear(context: PlanContext, operation: Linear): Promise<readonly Dispatch[]> {
  const { weight, x, out, bias } = operation
  const matrix = context.matrix(weight)
  const facts = formatFacts(weight.format, weight.cols)
  const tuning = context.tuning.linear
  const widths = tuning.columns.filter((width, index) => width <= context.capacity.tokens || index === 0)
  const shapes = widths.map((columns) => linearShape(tuning, facts, columns))
  const kernels = await Promise.all(
    shapes.map((shape) => {
      const spec: KernelSpec = {
        name: `linear-${shape.family}`,
        constants: {
          ...shape.constants,
          ...facts.constants,
          X_QUADS: strideOf(weight.cols) / 4,
          ...(weight.cols % facts.unitElements === 0 ? {} : { TAIL: true }),
          ...(bias === null ? {} : { BIAS: true }),
        },
        bindings: ['read', 'read', 'write', 'read', ...facts.bindings],
        immediateWords: IMMEDIATE_WORDS,
      }
      return context.kernel(spec)
    }),
  )
  const columnsOf = (shape: StepShape): number => (out.extent === 'rows' ? shape.rows : out.extent === 'tokens' ? shape.tokens : out.extent)
  const biasSlice = bias === null ? context.nothing : { buffer: context.vector(bias).buffer }
  const totalBytes = weightBytes(matrix)
  return matrix.shards.map((shard): Dispatch => {
    const immediates = new Uint32Array([
      0,
      shard.firstRow,
      shard.rows,
      operation.outOffset,
      strideOf(out.width),
      operation.accumulate ? 1 : 0,
    ])
    const buffers = [{ buffer: shard.buffer }, context.value(x), context.value(out), biasSlice, ...formatBuffers(matrix)]
    return {
      kernel: `linear ${formatLabel(operation)}`,
      variants: kernels.map((kernel) => context.variant(kernel, buffers)),
      immediates,
      prepare(step, grid) {
        const columns = columnsOf(step)
        if (columns === 0) return -1
        let variant = widths.findIndex((width) => width >= columns)
        if (variant < 0) variant = widths.length - 1
        immediates[COLUMNS] = columns
        grid[0] = Math.ceil(shard.rows / (shapes[variant]?.rowsPerGroup ?? 1))
        grid[1] = Math.ceil(columns / (widths[variant] ?? 1))
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
  })
}

function formatLabel({ weight }: Linear): string {
  const { format } = weight
  if (format.kind === 'dense') return format.dtype
  const group = format.groupSize >= weight.cols ? 'channel' : `g${format.groupSize}`
  return `int${format.bits} ${group}${format.hasZeroPoint ? ' asymmetric' : ''}`
}
