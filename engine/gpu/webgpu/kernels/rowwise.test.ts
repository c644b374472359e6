/** Norm, SwiGLU and gather against the f64 reference, and what each does with values that are not numbers. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Backend, Capacity, Program } from '../../program.ts'
import { testConfigurations } from '../../test/adapters.ts'
import { denseWeight } from '../../test/memory-weights.ts'
import { logitsOf, NO_CACHE, normals, operationProgram, oracle, prepare, randomFrom, sequenceStep, worstError } from '../../test/numeric.ts'

/** A handful of f32 roundings, and `exp` and `sqrt` good to a few units of the last place. */
const ROWWISE_TOLERANCE = 2 ** -20
const CAPACITY: Capacity = { tokens: 7, rows: 7, sequences: 1, blocksPerSequence: 1 }

function norm(width: number, inputs: Float32Array, dtype: 'f32' | 'bf16' = 'bf16'): Program {
  const weight = denseWeight(1, 1, width, normals(randomFrom(width), width), dtype)
  return operationProgram(inputs, width, (x) => {
    const out = { id: 2, name: 'out', extent: 'tokens', width } as const
    return { operations: [{ op: 'rmsNorm', x, weight, epsilon: 1e-5, out }], result: out, weights: [weight] }
  })
}

function swiglu(width: number, inputs: Float32Array): Program {
  return operationProgram(inputs, 2 * width, (gateUp) => {
    const out = { id: 2, name: 'out', extent: 'tokens', width } as const
    return { operations: [{ op: 'swiglu', gateUp, out }], result: out, weights: [] }
  })
}

describe.each(await testConfigurations())('$name', ({ open }) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await open()
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  async function compare(program: Program, tokens: number, scale = (value: number) => Math.abs(value) + 1e-3): Promise<number> {
    const step = sequenceStep(tokens, NO_CACHE, CAPACITY)
    const { logits } = await oracle(program, NO_CACHE, CAPACITY, [step])
    using prepared = await prepare(backend, program, NO_CACHE, CAPACITY)
    return worstError(await logitsOf(prepared, step), logits, (index) => scale(logits[index]!))
  }

  it.each([1, 3, 64, 172, 1031])('RMS norm of %i', async (width) => {
    expect(await compare(norm(width, normals(randomFrom(1), 5 * width, 3)), 5)).toBeLessThanOrEqual(ROWWISE_TOLERANCE)
  })

  it('RMS norm of tiny, huge and zero rows', async () => {
    const inputs = Float32Array.from({ length: 3 * 64 }, (_, i) => [1e-12, 1e15, 0][Math.floor(i / 64)]! * ((i % 7) - 3))
    expect(await compare(norm(64, inputs, 'f32'), 3)).toBeLessThanOrEqual(ROWWISE_TOLERANCE)
  })

  it.each([1, 5, 172, 640])('SwiGLU of %i', async (width) => {
    expect(await compare(swiglu(width, normals(randomFrom(2), 7 * 2 * width, 4)), 7)).toBeLessThanOrEqual(ROWWISE_TOLERANCE)
  })

  it('SwiGLU where the sigmoid saturates', async () => {
    const gates = [-200, -88, -20, -1e-20, 0, 1e-20, 20, 88, 200, 3e38]
    const inputs = Float32Array.from([...gates, ...gates.map(() => 1)])
    expect(await compare(swiglu(gates.length, inputs), 1, (value) => Math.abs(value) + 1e-30)).toBeLessThanOrEqual(2 ** -18)
  })

  it('reports NaN and infinities of any row, and only then', async () => {
    const width = 12
    const clean = normals(randomFrom(3), 3 * width)
    for (const [bad, expected] of [
      [1, false],
      [NaN, true],
      [Infinity, true],
      [-Infinity, true],
      [3.4e38, false],
    ] as const) {
      const inputs = clean.slice()
      inputs[width + 5] = bad
      using prepared = await prepare(
        backend,
        operationProgram(inputs, width, (x) => ({ operations: [], result: x, weights: [] })),
        NO_CACHE,
        CAPACITY,
      )
      const output = await prepared.executable.step(sequenceStep(3, NO_CACHE, CAPACITY))
      expect([bad, output.nonFinite]).toEqual([bad, expected])
      expect(Math.max(...output.argmax)).toBeLessThan(width)
    }
  })

  it.each([NaN, Infinity])('carries %s through norm and SwiGLU to the report', async (bad) => {
    for (const build of [(inputs: Float32Array) => norm(8, inputs), (inputs: Float32Array) => swiglu(4, inputs)]) {
      const inputs = normals(randomFrom(4), 8)
      inputs[2] = bad
      using prepared = await prepare(backend, build(inputs), NO_CACHE, CAPACITY)
      expect((await prepared.executable.step(sequenceStep(1, NO_CACHE, CAPACITY))).nonFinite).toBe(true)
    }
  })
})
