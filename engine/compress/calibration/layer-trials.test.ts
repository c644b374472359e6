/**
 * What candidates of AWQ cost, on both software adapters and on the processor alone, against the definition in f64: round W·t, divide by t, and
 * multiply by every token. Pools run their jobs in this process.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Backend } from '../../gpu/program.ts'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import { testBackends } from '../../gpu/test/adapters.ts'
import { gpuTuning } from '../../gpu/webgpu/tuning.ts'
import { accumulateHessian } from '../algorithms/hessian-factor.ts'
import { PRESET_SCHEMES } from '../scheme.ts'
import type { Scheme } from '../scheme.ts'
import { activations, normals } from '../test/matrices.ts'
import { roundTripOf } from '../round-trip.ts'
import type { WorkerPool } from '../worker-pool.ts'
import { runComputeJob } from './compute-job.ts'
import type { LayerLinear } from './layer-context.ts'
import { openOutputErrors, roundedLinear } from './layer-trials.ts'
import type { TrialMatter } from './layer-trials.ts'

const W4: Scheme = { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'group', groupSize: 43 }

const pool: WorkerPool = {
  size: 3,
  open: () => {
    throw new Error('not for tensors')
  },
  compute: (job) => Promise.resolve(runComputeJob(job) as never),
  [Symbol.asyncDispose]: () => Promise.resolve(),
}

function problem(cols: number, scheme: Scheme) {
  const tokens = 2 * cols
  const inputs = activations(tokens, cols, cols)
  const hessian = new Float64Array(cols * cols)
  accumulateHessian(hessian, 0, inputs, tokens, cols)
  const linears = (
    [
      ['gate', 80],
      ['up', 40],
    ] as const
  ).map(([role, rows]): LayerLinear => {
    const weight = Float32Array.from(normals(rows * cols, rows), (value) => 0.05 * value)
    return { role, module: `mlp.${role}`, input: 'mlp', rows, cols, dtype: 'BF16', weight, bias: null }
  })
  const matter: TrialMatter = {
    pool,
    storage: () => ({ scheme, observer: { kind: 'minmax' } }),
    meanSquare: new Float32Array(cols).fill(1),
    throwIfCancelled: () => {},
  }
  const candidates = [null, ...[1, 2, 3].map((seed) => Float64Array.from(normals(cols, seed), (value) => Math.exp(0.4 * value)))]
  const roundTrip = roundTripOf({ scheme, observer: { kind: 'minmax' } }, 'BF16', [])
  const rounded = ({ weight, rows }: LayerLinear, factors: Float64Array | null): Float32Array => {
    const scaled = weight.map((value, i) => value * (factors?.[i % cols] ?? 1))
    return roundTrip(scaled, rows, cols, factors).map((value, i) => value / (factors?.[i % cols] ?? 1))
  }
  const expected = candidates.map((factors) => {
    let sum = 0
    for (const linear of linears) {
      const decoded = rounded(linear, factors)
      for (let row = 0; row < linear.rows; row++) {
        for (let t = 0; t < tokens; t++) {
          let output = 0
          for (let c = 0; c < cols; c++) output += (linear.weight[row * cols + c]! - decoded[row * cols + c]!) * inputs[t * cols + c]!
          sum += output ** 2 / tokens
        }
      }
    }
    return sum
  })
  return { gram: Float32Array.from(hessian), linears, matter, candidates, expected, rounded }
}

const open = await testBackends()

describe.each([...open.map(({ name }) => name), 'processor'])('%s', (name) => {
  let backend: Backend
  beforeAll(async () => {
    const found = open.find((each) => each.name === name)
    // Small shards: the Gram matrix comes in several, and rows in several chunks.
    const tuning = { ...gpuTuning(), weightShardBytes: 64 * 4 * 192 }
    backend = found === undefined ? createReferenceBackend() : await found.open({ tuning })
  })
  afterAll(() => backend[Symbol.asyncDispose]())

  it.each([
    ['groups over ragged columns', 172, W4],
    ['one scale for all rows', 128, PRESET_SCHEMES['FP8']!],
    ['blocks of rows', 128, PRESET_SCHEMES['FP8_BLOCK']!],
  ] as const)('%s', async (_, cols, scheme) => {
    const { gram, linears, matter, candidates, expected, rounded } = problem(cols, scheme)
    const sources = {
      hessian: () => Promise.resolve({ kind: 'host', gram } as const),
      gram: () => Promise.resolve(gram),
    }
    {
      using errors = await openOutputErrors(linears, backend, sources, matter)
      const found = await errors.of(candidates)
      found.forEach((error, i) => expect(Math.abs(error / expected[i]! - 1)).toBeLessThan(2e-4))
    }
    expect([...backend.usage().keys()]).toEqual([])
    for (const linear of linears) {
      const factors = candidates[2]!
      const values = await roundedLinear(linear, factors, matter)
      // One f32 rounding apart: once as a product with 1/t, once as a quotient.
      rounded(linear, factors).forEach((value, i) => expect(Math.abs(values[i]! - value)).toBeLessThanOrEqual(2e-7 * Math.abs(value)))
    }
  })
})
