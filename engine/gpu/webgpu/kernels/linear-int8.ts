/** Plans linear-int8.wgsl: products of 8-bit codes, exact in integers, where both the weight and its input are int8 with one scale a row. */
import type { Operation } from '../../program.ts'
import type { BufferSlice } from '../kernel.ts'
import type { Dispatch, PlanContext } from '../plan.ts'
import { COMMON_IMMEDIATES, nextPowerOfTwo, shardDispatch } from './linear-shard.ts'
import { formatBuffers, formatFacts, weightBytes } from './weight-format.ts'

type Linear = Extract<Operation, { op: 'linear' }>

/** Every column of a tile loads its own codes: more of them are registers on a GPU, and minutes of compiling on a software adapter. */
const MOST_COLUMNS = 4

/** `input` as planInput made it: codes, and a scale per row. */
export async function planIntegerProducts(
  context: PlanContext,
  operation: Linear,
  input: { readonly values: BufferSlice; readonly scales: BufferSlice },
): Promise<readonly Dispatch[]> {
  const { weight, bias } = operation
  const matrix = context.matrix(weight)
  const facts = formatFacts(weight.format, weight.cols, matrix.sparse)
  const { workgroup, rows } = context.tuning.linear
  const lanes = Math.min(context.tuning.linear.lanes, nextPowerOfTwo(facts.units))
  const teams = workgroup / lanes
  const most = Math.min(MOST_COLUMNS, nextPowerOfTwo(context.capacity.tokens))
  // As in linear.ts, sparse weights have no tile of a single column on a GPU.
  const least = matrix.sparse && context.tuning.linear.family === 'lanes' ? 1 : 0
  const widths = context.tuning.linear.columns.filter((width, index) => index === least || (index > least && width <= most))
  const kernels = await Promise.all(
    widths.map((width) =>
      context.kernel({
        name: 'linear-int8',
        constants: {
          WORKGROUP: workgroup,
          ROWS: rows,
          COLUMNS: width,
          LANES: lanes,
          TEAMS: teams,
          UNITS: facts.units,
          ...facts.storage,
          INPUT_SCALES_BINDING: 4 + facts.bindings.length,
          ...(context.gpu.packedDot ? { PACKED_DOT: true } : {}),
        },
        bindings: ['read', 'read', 'write', 'read', ...facts.bindings, 'read'],
        immediateWords: COMMON_IMMEDIATES,
      }),
    ),
  )
  const biasSlice = bias === null ? context.nothing : { buffer: context.vector(bias).buffer }
  const tiles = widths.map((columns) => ({ columns, rowsPerGroup: teams * rows, extraImmediates: [] }))
  const totalBytes = weightBytes(matrix)
  return matrix.shards.map((shard): Dispatch => {
    const buffers = [
      { buffer: shard.buffer },
      input.values,
      context.value(operation.out),
      biasSlice,
      ...formatBuffers(matrix, shard),
      input.scales,
    ]
    return {
      ...shardDispatch(operation, shard, totalBytes, tiles),
      kernel: 'linear w8a8',
      variants: kernels.map((kernel) => context.variant(kernel, buffers)),
    }
  })
}
