/** The kernels that touch each activation once: embedding, RMS norm, SwiGLU and the gather before the head. All are memory-bound. */
import type { Operation } from '../../program.ts'
import { type Dispatch, extentOf, NO_IMMEDIATES, type PlanContext, single, strideOf } from '../plan.ts'
import { formatBuffers, formatFacts } from './weight-format.ts'

type Op<K extends Operation['op']> = Extract<Operation, { op: K }>

/** Bindings: weight shard, token ids, out, [scales, zero points]. One workgroup per token. */
export async function planEmbed(context: PlanContext, { weight, scale, out }: Op<'embed'>): Promise<readonly Dispatch[]> {
  const matrix = context.matrix(weight)
  const facts = formatFacts(weight.format, weight.cols)
  const kernel = await context.kernel({
    name: 'embed',
    constants: {
      ...facts.constants,
      WORKGROUP: context.tuning.rowWorkgroup,
      OUT_STRIDE: strideOf(out.width),
      FACTOR: { float: scale },
    },
    bindings: ['read', 'read', 'write', ...facts.bindings],
    immediateWords: 2,
  })
  return matrix.shards.map((shard) => {
    const buffers = [{ buffer: shard.buffer }, context.step.tokenIds, context.value(out), ...formatBuffers(matrix, shard)]
    return single(kernel, context.variant(kernel, buffers), {
      immediates: new Uint32Array([shard.firstRow, shard.rows]),
      prepare: (step, grid) => fill(grid, step.tokens, 1),
      cost: (step) => ({ bytes: step.tokens * (facts.units * 16 + 4 * weight.cols), operations: 0 }),
    })
  })
}

/** Bindings: x, weight, out. One workgroup per row; on a software adapter of one subgroup, which needs no barrier. */
export async function planRmsNorm(context: PlanContext, { x, weight, epsilon, out }: Op<'rmsNorm'>): Promise<readonly Dispatch[]> {
  const { rowWorkgroup } = context.tuning
  const { software, subgroupSize } = context.gpu
  const quads = strideOf(x.width) / 4
  const bySubgroup = software && subgroupSize !== null
  const kernel = await context.kernel({
    name: bySubgroup ? 'rms-norm-rows' : 'rms-norm',
    constants: {
      WIDTH: x.width,
      EPSILON: { float: epsilon },
      ...(bySubgroup
        ? { SUBGROUP: subgroupSize, STEPS: Math.log2(subgroupSize) }
        : { WORKGROUP: rowWorkgroup, QUADS: quads, LANE_QUADS: Math.ceil(quads / rowWorkgroup) }),
      ...(x.width % 4 === 0 ? {} : { TAIL: true }),
    },
    bindings: ['read', 'read', 'write'],
    immediateWords: bySubgroup ? 1 : 0,
  })
  return [
    single(kernel, context.variant(kernel, [context.value(x), { buffer: context.vector(weight).buffer }, context.value(out)]), {
      immediates: bySubgroup ? Uint32Array.of(quads) : NO_IMMEDIATES,
      prepare: (step, grid) => fill(grid, extentOf(x, step), 1),
      cost: (step) => ({ bytes: 4 * x.width * (2 * extentOf(x, step) + 1), operations: 4 * x.width * extentOf(x, step) }),
    }),
  ]
}

/** Bindings: gate|up, out. One invocation per four elements, or per one. */
export async function planSwiglu(context: PlanContext, { gateUp, out }: Op<'swiglu'>): Promise<readonly Dispatch[]> {
  const { headWorkgroup } = context.tuning
  const unit = out.width % 4 === 0 ? 4 : 1
  const kernel = await context.kernel({
    name: 'swiglu',
    constants: {
      WORKGROUP: headWorkgroup,
      COUNT: out.width / unit,
      IN_STRIDE: strideOf(gateUp.width) / unit,
      OUT_STRIDE: strideOf(out.width) / unit,
      ...(unit === 4 ? { QUADS: true } : {}),
    },
    bindings: ['read', 'write'],
    immediateWords: 0,
  })
  return [
    single(kernel, context.variant(kernel, [context.value(gateUp), context.value(out)]), {
      prepare: (step, grid) => fill(grid, Math.ceil(out.width / unit / headWorkgroup), extentOf(out, step)),
      cost: (step) => ({ bytes: 12 * out.width * extentOf(out, step), operations: 4 * out.width * extentOf(out, step) }),
    }),
  ]
}

/** Bindings: x, row indices, out. One workgroup per row. */
export async function planGatherRows(context: PlanContext, { x, out }: Op<'gatherRows'>): Promise<readonly Dispatch[]> {
  const kernel = await context.kernel({
    name: 'gather-rows',
    constants: { WORKGROUP: context.tuning.rowWorkgroup, QUADS: strideOf(x.width) / 4 },
    bindings: ['read', 'read', 'write'],
    immediateWords: 0,
  })
  return [
    single(kernel, context.variant(kernel, [context.value(x), context.step.logitRows, context.value(out)]), {
      prepare: (step, grid) => fill(grid, step.rows, 1),
      cost: (step) => ({ bytes: 8 * x.width * step.rows, operations: 0 }),
    }),
  ]
}

/** Writes a grid; an empty one means the dispatch is skipped. */
export function fill(grid: Uint32Array, x: number, y: number, z = 1): number {
  grid[0] = x
  grid[1] = y
  grid[2] = z
  return x === 0 || y === 0 || z === 0 ? -1 : 0
}
