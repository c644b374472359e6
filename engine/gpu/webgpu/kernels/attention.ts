/**
 * Rotary embedding with the append to the paged cache, and attention over it. See rope-append.wgsl and attention.wgsl for the arithmetic;
 * here are shapes, dispatch and cost.
 */
import { availableParallelism } from 'node:os'
import type { Operation } from '../../program.ts'
import { isQuantized, kvRowBytes, valueDtypeOf } from '../../kv-format.ts'
import type { KvDtype, KvLayout } from '../../program.ts'
import { isScaled, kvRowWords, paddedHeadDim } from '../kv-cache.ts'
import type { ShaderConstants } from '../shader.ts'
import { type Dispatch, type PlanContext, single, type StepShape, strideOf } from '../plan.ts'
import { fill } from './rowwise.ts'

type Op<K extends Operation['op']> = Extract<Operation, { op: K }>

/** Numbers by which rope-append.wgsl knows a type. */
const KINDS: Readonly<Record<KvDtype, number>> = { f32: 0, f16: 1, fp8: 2, int8: 3, int4: 4 }

/** How kernels read and write the cache: one plain type as whole vectors, anything else (kv-read.wgsl) word by word. */
function storageConstants(layout: KvLayout): ShaderConstants {
  const key = layout.dtype
  const value = valueDtypeOf(layout)
  if (!isScaled(layout)) return key === 'f16' ? { KV_F16: true } : {}
  return {
    KV_WORDS: true,
    K_KIND: KINDS[key],
    V_KIND: KINDS[value],
    K_ROW: kvRowWords(layout, key),
    V_ROW: kvRowWords(layout, value),
    [`K_${key.toUpperCase()}`]: true,
    [`V_${value.toUpperCase()}`]: true,
    ...(isQuantized(key) ? { K_SCALED: true } : {}),
    ...(isQuantized(value) ? { V_SCALED: true } : {}),
  }
}

/** Bytes of a token's keys and values of one head. */
function rowBytesOf(layout: KvLayout): number {
  const padded = paddedHeadDim(layout)
  return kvRowBytes(layout.dtype, padded) + kvRowBytes(valueDtypeOf(layout), padded)
}

/**
 * Bindings: qkv, positions, slots, rotation table, q, keys, values, q norm, k norm, and a cache's static scales where it has some. One workgroup
 * per (head of q, k and v; token).
 */
export async function planRopeAppend(context: PlanContext, operation: Op<'ropeAppend'>): Promise<readonly Dispatch[]> {
  const { qkv, q, heads, kvHeads, headDim, qNorm, kNorm, rope, layer } = operation
  const layout = context.kvLayout
  const padded = paddedHeadDim(layout)
  const { staticScales } = context.kv
  // Whole heads as they are: see rope-pairs.wgsl.
  const byPairs =
    qNorm === null && kNorm === null && !isScaled(layout) && rope.rotaryDim === headDim && headDim % 4 === 0 && padded === headDim
  const workgroup = context.tuning.headWorkgroup
  const kernel = await context.kernel({
    name: byPairs ? 'rope-pairs' : 'rope-append',
    constants: {
      WORKGROUP: workgroup,
      HEADS: heads,
      KV_HEADS: kvHeads,
      HEAD_DIM: headDim,
      PADDED_DIM: padded,
      ROTARY_PAIRS: rope.rotaryDim / 2,
      QKV_STRIDE: strideOf(qkv.width),
      Q_STRIDE: strideOf(q.width),
      BLOCK_SIZE: layout.blockSize,
      EPSILON: { float: operation.normEpsilon },
      ...(qNorm === null && kNorm === null ? {} : { HEAD_NORM: true }),
      ...(qNorm === null ? {} : { Q_NORM: true }),
      ...(kNorm === null ? {} : { K_NORM: true }),
      ...storageConstants(layout),
      ...(staticScales === null ? {} : { STATIC_SCALES: true }),
    },
    bindings: [
      ...(['read', 'read', 'read', 'read', 'write', 'write', 'write', 'read', 'read'] as const),
      ...(staticScales === null ? [] : (['read'] as const)),
    ],
    immediateWords: 0,
  })
  const norm = (weight: typeof qNorm): { buffer: GPUBuffer } => {
    return weight === null ? context.nothing : { buffer: context.vector(weight).buffer }
  }
  const variant = context.variant(kernel, [
    context.value(qkv),
    context.step.positions,
    context.step.slots,
    context.rope(rope),
    context.value(q),
    { buffer: bufferAt(context.kv.keys, layer) },
    { buffer: bufferAt(context.kv.values, layer) },
    norm(qNorm),
    norm(kNorm),
    ...(staticScales === null ? [] : [{ buffer: bufferAt(staticScales, layer) }]),
  ])
  const rowBytes = rowBytesOf(layout)
  return [
    single(kernel, variant, {
      prepare: (step, grid) => {
        const all = heads + 2 * kvHeads
        return fill(grid, byPairs ? Math.ceil((all * headDim) / 4 / workgroup) : all, step.tokens)
      },
      cost: (step) => ({
        bytes: step.tokens * (4 * (qkv.width + q.width) + kvHeads * rowBytes),
        operations: step.tokens * (heads + kvHeads) * rope.rotaryDim * 3,
      }),
    }),
  ]
}

function bufferAt(buffers: readonly GPUBuffer[], layer: number): GPUBuffer {
  const buffer = buffers[layer]
  if (buffer === undefined) throw new Error(`the key-value cache has no layer ${layer}`)
  return buffer
}

/** Largest divisor of `n` that is at most `limit`. */
function divisorWithin(n: number, limit: number): number {
  for (let d = Math.min(n, limit); d > 1; d--) if (n % d === 0) return d
  return 1
}

/** Words of scratch per (token, chunk, head): weighted values, maximum, sum, flag. */
function scratchWords(quads: number): number {
  return 4 * quads + 4
}

/** Bytes of scratch that attention over `heads` heads of this layout needs to split chunks over workgroups; 0 = it never does. */
export function attentionScratchBytes(context: Pick<PlanContext, 'tuning' | 'kvLayout'>, heads: number): number {
  return context.tuning.attention.splitPairs * heads * scratchWords(paddedHeadDim(context.kvLayout) / 4) * 4
}

/** Loads under way at once in loops whose order of additions is fixed: keys' values of a slice, and chunks to be joined. */
const VALUES_AHEAD = 4
const CHUNKS_AHEAD = 8

/** Query values that one invocation of attention-rows may hold: more would spill on any adapter and compile for seconds. */
const MAX_ROW_QUERY = 256

/**
 * Bindings: q, keys, values, positions, sequence of each token, block table, out (or scratch). One workgroup per (query heads of a kv head,
 * token), and per chunk where split; then a combine per (head, token).
 */
export async function planAttention(context: PlanContext, operation: Op<'attention'>): Promise<readonly Dispatch[]> {
  const { q, out, heads, kvHeads, headDim, window, layer } = operation
  const { attention } = context.tuning
  const layout = context.kvLayout
  const padded = paddedHeadDim(layout)
  const quads = padded / 4
  const headsPerKv = heads / kvHeads
  const byRows = attention.family === 'rows'
  const team = divisorWithin(
    headsPerKv,
    byRows ? Math.min(attention.team, Math.max(1, Math.floor(MAX_ROW_QUERY / padded))) : attention.team,
  )
  const workgroup = byRows ? attention.workgroup : Math.max(attention.workgroup, quads)
  const rowBytes = rowBytesOf(layout)
  const constants = {
    WORKGROUP: workgroup,
    TEAM: team,
    QUADS: quads,
    ROW_UNITS: isScaled(layout) ? quads : (padded * (layout.dtype === 'f16' ? 2 : 4)) / 16,
    CHUNK: attention.chunk,
    SUBLANES: attention.sublanes,
    AHEAD: VALUES_AHEAD,
    SLICES: Math.floor(workgroup / quads),
    HEADS: heads,
    KV_HEADS: kvHeads,
    HEADS_PER_KV: headsPerKv,
    GROUPS: heads / team,
    // Keys whose scores attention-rows computes together, so that each quad of the query is loaded once for all of them.
    TOGETHER: 4,
    HEAD_DIM: headDim,
    BLOCK_SIZE: layout.blockSize,
    BLOCKS_PER_SEQUENCE: context.capacity.blocksPerSequence,
    Q_STRIDE: strideOf(q.width),
    OUT_STRIDE: strideOf(out.width),
    SCALE: { float: operation.scale },
    ...storageConstants(layout),
    ...(window === null ? {} : { WINDOW: window }),
  }
  const bindings = ['read', 'read', 'read', 'read', 'read', 'read', 'write'] as const
  const whole = await context.kernel({ name: byRows ? 'attention-rows' : 'attention', constants, bindings, immediateWords: byRows ? 4 : 1 })
  const inputs = [
    context.value(q),
    { buffer: bufferAt(context.kv.keys, layer) },
    { buffer: bufferAt(context.kv.values, layer) },
    context.step.positions,
    context.step.sequenceOfToken,
    context.step.blockTable,
  ]
  const cost = (step: StepShape): { bytes: number; operations: number } => {
    const keys = Math.min(step.longestContext, window ?? step.longestContext)
    return {
      bytes: step.tokens * (keys * kvHeads * rowBytes + 8 * heads * headDim),
      operations: step.tokens * keys * heads * headDim * 4,
    }
  }
  /** Chunks that any token of the step may touch; 1 means nothing to spread. */
  const chunksOf = (step: StepShape): number => {
    const span = Math.min(step.longestContext, window === null ? step.longestContext : window + attention.chunk)
    return Math.ceil(span / attention.chunk)
  }
  const splits = (step: StepShape): boolean => chunksOf(step) > 1 && step.tokens * chunksOf(step) <= attention.splitPairs
  const immediates = Uint32Array.from(byRows ? [0, constants.ROW_UNITS, quads, 0] : [0])
  const undivided = single(whole, context.variant(whole, [...inputs, context.value(out)]), {
    immediates,
    prepare(step, grid) {
      immediates[0] = step.tokens
      if (byRows) {
        const tasks = (step.tokens * heads) / team
        // Idle lanes are cheap, idle cores are not.
        const groups = Math.max(Math.ceil(tasks / workgroup), Math.min(tasks, availableParallelism()))
        immediates[3] = Math.ceil(tasks / groups)
        return fill(grid, groups, 1)
      }
      return splits(step) ? -1 : fill(grid, heads / team, step.tokens)
    },
    cost,
  })
  if (byRows || attention.splitPairs === 0) return [undivided]

  const part = await context.kernel({ name: 'attention', constants: { ...constants, SPLIT: true }, bindings, immediateWords: 1 })
  const combine = await context.kernel({
    name: 'attention-combine',
    constants: {
      WORKGROUP: context.tuning.headWorkgroup,
      QUADS: quads,
      HEADS: heads,
      HEAD_DIM: headDim,
      CHUNK: attention.chunk,
      AHEAD: CHUNKS_AHEAD,
      OUT_STRIDE: strideOf(out.width),
      ...(window === null ? {} : { WINDOW: window }),
    },
    bindings: ['read', 'read', 'write'],
    immediateWords: 1,
  })
  const scratch = { buffer: context.attentionScratch }
  const partImmediates = new Uint32Array(1)
  const combineImmediates = new Uint32Array(1)
  return [
    undivided,
    single(part, context.variant(part, [...inputs, scratch]), {
      immediates: partImmediates,
      prepare(step, grid) {
        if (!splits(step)) return -1
        partImmediates[0] = chunksOf(step)
        return fill(grid, heads / team, step.tokens, chunksOf(step))
      },
      cost,
    }),
    single(combine, context.variant(combine, [scratch, context.step.positions, context.value(out)]), {
      immediates: combineImmediates,
      prepare(step, grid) {
        if (!splits(step)) return -1
        combineImmediates[0] = chunksOf(step)
        return fill(grid, heads, step.tokens)
      },
      cost: (step) => ({
        bytes: step.tokens * heads * (chunksOf(step) * scratchWords(quads) * 4 + 4 * headDim),
        operations: step.tokens * heads * chunksOf(step) * headDim * 2,
      }),
    }),
  ]
}
