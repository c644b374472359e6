import { describe, expect, test } from 'vitest'
import { CAPACITY_DEFAULTS, type CapacityRequest } from '../contract/index.ts'
import { findDevice } from './devices.ts'
import { modelShapeOf, parametersOf } from './model-shape.ts'
import { planCapacity, type PlanMachine, type PlanSubject } from './planner.ts'
import { findPublishedModel } from './published-models.ts'
import { BF16, weightPartsOf } from './storage-schemes.ts'

const GIB = 2 ** 30

function subjectOf(id: string): PlanSubject {
  const model = findPublishedModel(id)!
  const shape = modelShapeOf(model.config)
  return {
    title: model.name,
    shape,
    parameters: parametersOf(shape),
    stored: { title: 'BF16', scheme: BF16, weights: weightPartsOf(shape, BF16) },
    measured: null,
  }
}

function machineOf(gpu: string): PlanMachine {
  const device = findDevice(gpu)!
  return { title: device.name, device, calibration: null, memoryBytes: device.memoryBytes, software: false }
}

function plan(id: string, gpu: string, change: Partial<CapacityRequest> = {}) {
  const request: CapacityRequest = { ...CAPACITY_DEFAULTS, subject: { kind: 'published', id }, deviceId: gpu, engine: 'vllm', ...change }
  return planCapacity(request, subjectOf(id), machineOf(gpu))
}

function perToken(id: string, count: number): number {
  return plan(id, 'b200', { tensorParallel: count }).kv.reservedBytesPerToken
}

function lathe(change: Partial<CapacityRequest>) {
  return plan('llama-3.1-8b', 'rtx-4090', { engine: 'lathe', schemeId: 'w4a16-g128', ...change })
}

function served(perTokenMs: number | null, firstTokenMs: number | null = null) {
  return plan('llama-3.1-8b', 'h100', { slo: { perTokenMs, firstTokenMs } }).service!
}

describe('budget and concurrency (specs/benchmark.md §7.3)', () => {
  // util .92, 1.5 GiB activation, .15 non-torch, 16-bit KV; the spec's activation is its own, so its difference to ours is put back
  test.each([
    [null, 44.7, 10.9],
    ['fp8', 98.0, 23.9],
    ['w4a16-g128', 123.8, 30.2],
    ['nvfp4', 121.3, 29.6],
  ])('Llama-3.1-8B on an RTX 4090 as %s: %f k tokens of cache, %f sequences of 4 k', (schemeId, thousands, sequences) => {
    const { parts, kv } = plan('llama-3.1-8b', 'rtx-4090', { schemeId })
    const tokens = kv.tokens! + (parts.activationBytes - 1.5 * GIB) / 131_072
    expect(tokens / 1000).toBeCloseTo(thousands, 0)
    expect(tokens / 4096).toBeCloseTo(sequences, 0)
  })

  test('the least number of GPUs that fits is chosen, by vLLM’s rules', () => {
    const { tensorParallel, fit } = plan('llama-3.1-70b', 'h100', { contextTokens: 8192, concurrency: 8 })
    expect([tensorParallel.count, fit.verdict]).toEqual([4, 'fits'])
    expect(plan('llama-3.1-70b', 'h100', { contextTokens: 8192, concurrency: 8, schemeId: 'fp8' }).tensorParallel.count).toBe(2)
    expect(plan('llama-3.1-70b', 'h100', { contextTokens: 8192, schemeId: 'w4a16-g128' }).tensorParallel.count).toBe(1)
  })

  test('splits that vLLM refuses are refused with the rule', () => {
    const { tensorParallel, notes } = plan('qwen3-14b', 'h100', { tensorParallel: 16 })
    expect(tensorParallel.choices.find((choice) => choice.count === 16)?.reason).toBe("40 attention heads don't divide by 16")
    expect(notes).toContain("vLLM refuses 16 GPUs: 40 attention heads don't divide by 16.")
    // 2880 wide: 1440 columns are no whole groups of 128
    const oss = plan('gpt-oss-20b', 'h100', { schemeId: 'w4a16-g128' })
    expect(oss.tensorParallel.choices.find((choice) => choice.count === 2)?.reason).toContain('no whole groups of 128')
  })

  test('more ranks than key-value heads hold the cache more than once; a latent cache is whole on each', () => {
    expect([perToken('llama-3.1-70b', 8), perToken('llama-3.1-70b', 16)]).toEqual([327_680 / 8, 327_680 / 8])
    expect([perToken('deepseek-v3', 1), perToken('deepseek-v3', 8)]).toEqual([70_272, 70_272])
  })

  test('windows: what is ideal and what is reserved', () => {
    const { kv, notes } = plan('gpt-oss-120b', 'h100', { contextTokens: 8192, tensorParallel: 1 })
    expect(kv.reservedBytesPerToken).toBe(73_728)
    expect(kv.bytesPerToken).toBeCloseTo(73_728 * (0.5 + (0.5 * 128) / 8192), 6)
    expect(notes.some((note) => note.includes('same pages'))).toBe(true)
  })
})

describe('answers', () => {
  test('the solves are exact: what they say fits, and one more does not', () => {
    const asked = plan('llama-3.1-8b', 'rtx-4090', { concurrency: 3 })
    const context = asked.limits.context!
    const fits = (change: Partial<CapacityRequest>) => plan('llama-3.1-8b', 'rtx-4090', { tensorParallel: 1, ...change }).fit.verdict
    expect([fits({ concurrency: 3, contextTokens: context }), fits({ concurrency: 3, contextTokens: context + 16 })]).toEqual([
      'tight',
      'context',
    ])
    const sequences = asked.limits.concurrency!
    expect([fits({ concurrency: sequences }), fits({ concurrency: sequences + 1 })]).toEqual(['tight', 'context'])
  })

  test('the same holds for Lathe’s own reservation at load', () => {
    const sequences = lathe({}).limits.concurrency!
    expect(sequences).toBeGreaterThan(8)
    expect([sequences, sequences + 1].map((concurrency) => lathe({ concurrency }).fit.verdict)).toEqual(['tight', 'context'])
    const context = lathe({ concurrency: 2 }).limits.context!
    expect([context, context + 32].map((contextTokens) => lathe({ concurrency: 2, contextTokens }).fit.verdict)).toEqual([
      'tight',
      'context',
    ])
  })

  test('the best scheme is the one of most bits that fits and suits the device', () => {
    expect(plan('llama-3.1-8b', 'rtx-4090').bestSchemeId).toBe('bf16')
    expect(plan('qwen3-14b', 'rtx-4090', { tensorParallel: 1 }).bestSchemeId).toBe('mxfp8')
    expect(plan('qwen3-14b', 'rtx-3090', { tensorParallel: 1 }).bestSchemeId).toBe('w8a8')
    expect(plan('llama-3.1-70b', 'rtx-3060', { tensorParallel: 1 }).bestSchemeId).toBeNull()
  })

  test('tighter limits allow fewer sequences, and what cannot be kept alone is named', () => {
    const [loose, middle, tight] = [served(null), served(30), served(12)].map((service) => service.concurrency) as [number, number, number]
    expect(loose).toBe(256)
    expect([loose > middle, middle > tight, tight > 0]).toEqual([true, true, true])
    expect([served(30).limitedBy, served(null, 1).limitedBy, served(null, 1).concurrency]).toEqual(['per-token', 'first-token', 0])
  })

  test('cost is per GPU, at the rate within the SLO; people need whole copies', () => {
    const { service, tensorParallel } = plan('llama-3.1-70b', 'h100', {
      users: 1000,
      costPerGpuHour: 2.5,
      busyShare: 0.4,
      slo: { perTokenMs: 60, firstTokenMs: 2000 },
    })
    const { concurrency, tokensPerSecond, costPerMillionTokens, gpusForUsers } = service!
    expect(gpusForUsers).toBe(Math.ceil(1000 / concurrency) * tensorParallel.count)
    expect(costPerMillionTokens!.high).toBeCloseTo(((2.5 * tensorParallel.count) / (tokensPerSecond.low * 3600 * 0.4)) * 1e6, 6)
    expect(costPerMillionTokens!.low).toBeLessThan(costPerMillionTokens!.high)
  })

  // docs/gpu-throughput.md: whole steps at these shapes, context 1024, prompts of 2048 tokens.
  test.each([
    ['bf16', 105, 955],
    ['w8a16', 117, 843],
    ['w4a16-g128', 127, 996],
  ])(
    'what Lathe reached on an H200 with Llama-3.1-8B as %s lies within what is estimated from published limits',
    (schemeId, decode, prefill) => {
      const { speed } = plan('llama-3.1-8b', 'h200', { engine: 'lathe', schemeId, contextTokens: 1024 })
      for (const [estimate, measured] of [
        [speed.decode!, decode],
        [speed.prefill!, prefill],
      ] as const) {
        expect(estimate.low).toBeLessThanOrEqual(measured)
        expect(estimate.high).toBeGreaterThanOrEqual(measured)
        // A range that holds everything says nothing.
        expect(estimate.high / estimate.low).toBeLessThan(4)
      }
    },
  )

  test('nothing is said of speeds where nothing is known', () => {
    const request: CapacityRequest = { ...CAPACITY_DEFAULTS, subject: { kind: 'published', id: 'qwen3-0.6b' } }
    const unknown = planCapacity(request, subjectOf('qwen3-0.6b'), {
      title: 'some adapter',
      device: null,
      calibration: null,
      memoryBytes: null,
      software: true,
    })
    expect([unknown.speed.decode, unknown.service, unknown.fit.verdict, unknown.limits.concurrency]).toEqual([null, null, 'unknown', null])
  })
})
