/**
 * Everything between the logits and the host: log Σ exp and argmax, target log-probabilities, top-k, and sampling. Two levels, so that a row of
 * 150 000 logits uses the whole device; only words per row are read back.
 */
import type { Program } from '../../program.ts'
import { type Dispatch, type DispatchVariant, type LogitsBuffers, type PlanContext, single, strideOf } from '../plan.ts'
import type { Kernel } from '../kernel.ts'
import { fill } from './rowwise.ts'

/** Words per row in the results buffer; see logits-finish.wgsl. */
export const RESULT_WORDS = 8
/** Words per row of sampling parameters. */
export const SAMPLER_WORDS = 16
/** Most log-probabilities per row that a step returns (program.ts). */
export const MAX_TOP = 32
/** Sums of 2⁻²⁴ probabilities in halves of 12 bits overflow u32 beyond this many tokens (sample.wgsl). */
export const MAX_VOCABULARY = 2 ** 20

/** Words of top-chunk's immediates: count, candidates, stride, outStride, chunk, vocabulary. */
const TOP_IMMEDIATES = 6

/** Edits of a row that share a workgroup. */
const ADJUST_WORKGROUP = 64

const FACTS_BYTES = 16
const PAIR_BYTES = 8

function chunksOf(context: Pick<PlanContext, 'tuning'>, vocabulary: number): number {
  return Math.ceil(vocabulary / context.tuning.logits.chunk)
}

/** Sizes of the buffers that the kernels here share, for `rows` rows. */
export function logitsBufferBytes(
  context: Pick<PlanContext, 'tuning'>,
  vocabulary: number,
  rows: number,
): Record<keyof LogitsBuffers, number> {
  const chunks = chunksOf(context, vocabulary)
  return {
    chunks: rows * chunks * FACTS_BYTES,
    rowFacts: rows * FACTS_BYTES,
    results: rows * RESULT_WORDS * 4,
    topPairs: rows * chunks * MAX_TOP * PAIR_BYTES,
    tops: rows * MAX_TOP * PAIR_BYTES,
  }
}

/** One readback of a step with so many rows at most. */
export function readbackBytes(rows: number): number {
  return rows * (RESULT_WORDS * 4 + MAX_TOP * 8) + 4
}

export async function planLogits(context: PlanContext, program: Program, buffers: LogitsBuffers): Promise<readonly Dispatch[]> {
  const { vocabulary } = program
  const { workgroup, chunk } = context.tuning.logits
  const stride = strideOf(program.logits.width)
  const chunks = chunksOf(context, vocabulary)
  const logits = context.value(program.logits)
  // The vocabulary is an immediate, so that every model uses the same pipelines.
  const [byChunk, finish, sample, topFirst, topFinal] = await Promise.all([
    context.kernel({
      name: 'logits-chunk',
      constants: { WORKGROUP: workgroup, CHUNK: chunk },
      bindings: ['read', 'write'],
      immediateWords: 3,
    }),
    context.kernel({
      name: 'logits-finish',
      constants: { WORKGROUP: workgroup },
      bindings: ['read', 'read', 'read', 'read', 'write', 'write'],
      immediateWords: 4,
    }),
    context.kernel({
      name: 'sample',
      constants: { WORKGROUP: workgroup },
      bindings: ['read', 'read', 'read', 'write'],
      immediateWords: 2,
    }),
    context.kernel({
      name: 'top-chunk',
      constants: { WORKGROUP: workgroup, ...(chunks === 1 ? { FINAL: true } : {}) },
      bindings: ['read', 'write', 'read'],
      immediateWords: TOP_IMMEDIATES,
    }),
    context.kernel({
      name: 'top-chunk',
      constants: { WORKGROUP: workgroup, PAIRS: true, FINAL: true },
      bindings: ['read', 'write', 'read'],
      immediateWords: TOP_IMMEDIATES,
    }),
  ])
  const rowFacts = { buffer: buffers.rowFacts }
  const results = { buffer: buffers.results }
  const finishImmediates = new Uint32Array([vocabulary, stride, chunks, 0])
  const topImmediates = new Uint32Array(TOP_IMMEDIATES)
  const finalImmediates = new Uint32Array(TOP_IMMEDIATES)
  const rowBytes = 4 * vocabulary
  const dispatches: Dispatch[] = [
    single(byChunk, context.variant(byChunk, [logits, { buffer: buffers.chunks }]), {
      immediates: new Uint32Array([vocabulary, stride, chunks]),
      prepare: (step, grid) => fill(grid, chunks, step.rows),
      cost: (step) => ({ bytes: step.rows * rowBytes, operations: 4 * step.rows * vocabulary }),
    }),
    single(
      finish,
      context.variant(finish, [logits, { buffer: buffers.chunks }, context.step.targets, context.step.samplers, rowFacts, results]),
      {
        immediates: finishImmediates,
        prepare(step, grid) {
          finishImmediates[3] = step.rows
          return fill(grid, Math.ceil(step.rows / workgroup), 1)
        },
        cost: (step) => ({ bytes: step.rows * chunks * FACTS_BYTES, operations: step.rows * chunks * 8 }),
      },
    ),
    single(sample, context.variant(sample, [logits, context.step.samplers, rowFacts, results]), {
      immediates: new Uint32Array([vocabulary, stride]),
      prepare: (step, grid) => (step.samples ? fill(grid, step.rows, 1) : -1),
      // Ten readings at worst: four for top-k, five for top-p, one to choose.
      cost: (step) => ({ bytes: step.rows * rowBytes, operations: 150 * step.rows * vocabulary }),
    }),
    ...planAdjusted(context, program, buffers),
    single(topFirst, context.variant(topFirst, [logits, { buffer: chunks === 1 ? buffers.tops : buffers.topPairs }, rowFacts]), {
      immediates: topImmediates,
      prepare(step, grid) {
        topImmediates.set([step.topCount, vocabulary, stride, chunks === 1 ? step.topCount : chunks * MAX_TOP, chunk, vocabulary])
        return step.topCount === 0 ? -1 : fill(grid, chunks, step.rows)
      },
      cost: (step) => ({ bytes: step.rows * rowBytes, operations: step.topCount * step.rows * vocabulary }),
    }),
  ]
  if (chunks > 1) {
    dispatches.push(
      single(topFinal, context.variant(topFinal, [{ buffer: buffers.topPairs }, { buffer: buffers.tops }, rowFacts]), {
        immediates: finalImmediates,
        prepare(step, grid) {
          const candidates = chunks * step.topCount
          finalImmediates.set([step.topCount, candidates, chunks * MAX_TOP, step.topCount, candidates, vocabulary])
          return step.topCount === 0 ? -1 : fill(grid, 1, step.rows)
        },
        cost: (step) => ({
          bytes: step.rows * chunks * step.topCount * PAIR_BYTES,
          operations: step.rows * chunks * step.topCount * step.topCount,
        }),
      }),
    )
  }
  return dispatches
}

/**
 * Change, choose, restore, for rows with adjustments. Kernels and buffer come into being with the first such step, so the bind groups are made
 * when the step is, and again when the buffer has grown.
 */
function planAdjusted(context: PlanContext, program: Program, buffers: LogitsBuffers): readonly Dispatch[] {
  const { vocabulary } = program
  const { adjuster } = context
  const { workgroup } = context.tuning.logits
  const stride = strideOf(program.logits.width)
  const logits = context.value(program.logits)
  const rowFacts = { buffer: buffers.rowFacts }
  const results = { buffer: buffers.results }
  const change = { name: 'adjust-logits', bindings: ['write', 'read', 'write', 'read', 'write'], immediateWords: 2 } as const
  const choose = { name: 'sample', bindings: ['read', 'read', 'read', 'write', 'read'], immediateWords: 2 } as const
  const specs = [
    { ...change, constants: { WORKGROUP: ADJUST_WORKGROUP } },
    { ...choose, constants: { WORKGROUP: workgroup, ADJUSTED: true } },
    { ...change, constants: { WORKGROUP: ADJUST_WORKGROUP, RESTORE: true } },
  ]
  const kernels: (Kernel | null)[] = [null, null, null]
  adjuster.onFirstUse(async () => {
    const compiled = await Promise.all(specs.map((spec) => context.kernel(spec)))
    for (const [index, kernel] of compiled.entries()) kernels[index] = kernel
  })
  return specs.map((spec, index) => {
    const chooses = spec.name === 'sample'
    const variants: DispatchVariant[] = []
    let bound: GPUBuffer | null = null
    return {
      kernel: spec.name,
      variants,
      immediates: new Uint32Array([vocabulary, stride]),
      prepare(step, grid) {
        const kernel = kernels[index] ?? null
        const { buffer } = adjuster
        if (!step.adjusts || kernel === null || buffer === null || (!chooses && step.mostEdits === 0)) return -1
        if (bound !== buffer) {
          const slots = chooses
            ? [logits, context.step.samplers, rowFacts, results, { buffer }]
            : [logits, context.step.samplers, { buffer }, rowFacts, results]
          variants[0] = context.variant(kernel, slots)
          bound = buffer
        }
        return chooses ? fill(grid, step.rows, 1) : fill(grid, Math.ceil(step.mostEdits / ADJUST_WORKGROUP), step.rows)
      },
      cost: (step) =>
        chooses
          ? { bytes: step.rows * 4 * vocabulary, operations: 150 * step.rows * vocabulary }
          : { bytes: step.rows * step.mostEdits * 24, operations: step.rows * step.mostEdits * 6 },
    }
  })
}
