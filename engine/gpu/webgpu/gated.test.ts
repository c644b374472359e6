/** Gate and up with SwiGLU in one dispatch: where it may be, and that it changes no bit. */
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import type { Backend, Capacity, KvLayout, Operation, Value } from '../program.ts'
import { batchStep, decoderProgram } from '../bench/synthetic.ts'
import { testConfigurations } from '../test/adapters.ts'
import { denseWeight } from '../test/memory-weights.ts'
import { joinGates } from './gated.ts'

const SHAPE = { layers: 1, hidden: 64, heads: 2, kvHeads: 1, headDim: 32, intermediate: 88, vocabulary: 32 }
const KV: KvLayout = { layers: 1, kvHeads: 1, headDim: 32, blockSize: 16, blocks: 10, dtype: 'f16' }
const CAPACITY: Capacity = { tokens: 9, rows: 9, sequences: 9, blocksPerSequence: 1 }

const value = (id: number, width: number): Value => ({ id, name: `v${id}`, extent: 'tokens', width })
const [x, gateUp, activated] = [value(0, 4), value(1, 8), value(2, 4)]
const linear: Operation = {
  op: 'linear',
  x,
  weight: denseWeight(1, 8, 4, new Float32Array(32), 'f32'),
  bias: null,
  accumulate: false,
  outOffset: 0,
  out: gateUp,
}
const swiglu: Operation = { op: 'swiglu', gateUp, out: activated }
const norm: Operation = { op: 'rmsNorm', x: gateUp, weight: denseWeight(2, 1, 8, new Float32Array(8), 'f32'), epsilon: 1, out: value(3, 8) }

const whole = (): boolean => true

test('joins a pair whose middle nobody else reads', () => {
  expect(joinGates([linear, swiglu], whole)).toEqual([{ ...linear, out: activated, gated: true }])
  expect(joinGates([linear, swiglu, linear, norm], whole)).toHaveLength(3)
  for (const apart of [
    [linear, swiglu, norm],
    [{ ...linear, accumulate: true }, swiglu],
    [{ ...linear, outOffset: 4 }, swiglu],
    [linear, norm],
  ]) {
    expect(joinGates(apart, whole)).toEqual(apart)
  }
  expect(joinGates([linear, swiglu], () => false)).toEqual([linear, swiglu])
})

describe.each((await testConfigurations()).slice(0, 2))('$name', ({ open }) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await open()
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  it('gives the bits of the pair', async () => {
    const program = decoderProgram(SHAPE, { kind: 'packed-int', bits: 4, groupSize: 8, hasZeroPoint: false, scaleDtype: 'bf16' }, 16)
    const logits: Float32Array[][] = []
    for (const keepValues of [true, false]) {
      using kv = await backend.createKvCache(KV, 'gated')
      using executable = await backend.compile(program, { capacity: CAPACITY, kv, owner: 'gated', keepValues })
      const each: Float32Array[] = []
      for (const sequences of [1, 9]) {
        await executable.step(batchStep(sequences, 1, 0, KV.blockSize, 1))
        each.push(await executable.read(program.logits))
      }
      logits.push(each)
    }
    expect(logits[1]).toEqual(logits[0])
    expect(logits[0]?.[1]?.some((logit) => logit !== 0)).toBe(true)
  })
})
