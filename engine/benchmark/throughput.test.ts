import { describe, expect, test } from 'vitest'
import { createTableRuntime } from '../evaluate/test/table-runtime.ts'
import { createFakeRuntime } from '../runtime/test/fake-runtime.ts'
import type { GenerationEvent, GenerationRequest, Runtime } from '../runtime/types.ts'
import { measureGrid } from './engine-grid.ts'
import { createRuntimeLoadTarget } from './load/runtime-load-target.ts'
import { measureThroughput, summarize, syntheticPrompt } from './throughput.ts'

/** The same runtime; the cached tokens of every request that ends are noted. */
function watchCache(runtime: Runtime, cached: number[]): Runtime {
  async function* generate(request: GenerationRequest): AsyncGenerator<GenerationEvent> {
    for await (const event of runtime.generate(request)) {
      if (event.kind === 'finished') cached.push(event.stats.cachedTokens)
      yield event
    }
  }
  return new Proxy(runtime, {
    get: (target, key) => {
      const value: unknown = key === 'generate' ? generate : Reflect.get(target, key)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

const uniform = (id: string) => createTableRuntime(id, () => [1], 500)

describe('throughput', () => {
  test('recovers known delays, counts only what follows the warm-up, and interleaves', async () => {
    const subjects = ['a', 'b'].map((modelId) => ({ modelId, runtime: uniform(modelId), peakGpuBytes: () => 123 }))
    const progress: number[] = []
    const [a, b] = await measureThroughput(subjects, {
      promptTokens: 50,
      generatedTokens: 11,
      warmups: 1,
      repeats: 3,
      onProgress: (done) => progress.push(done),
    })
    expect(a).toEqual({
      prefillTokensPerSecond: { median: 500, min: 500, max: 500, n: 3 }, // 50 tokens in 120 − 20 ms
      decodeTokensPerSecond: { median: 100, min: 100, max: 100, n: 3 }, // 10 gaps of 10 ms
      timeToFirstTokenMs: { median: 120, min: 120, max: 120, n: 3 },
      promptTokens: 50,
      generatedTokens: 11,
      warmups: 1,
      repeats: 3,
      loadSeconds: 0.25,
      compileSeconds: null,
      peakGpuBytes: 123,
      weightGpuBytes: 100,
      kvGpuBytes: 10,
      interleavedWith: 'b',
      bandwidthShare: null,
      versus: null,
      points: [],
    })
    expect(b?.interleavedWith).toBe('a')
    const one = { median: 1, min: 1, max: 1, n: 3 }
    expect(b?.versus).toEqual({ baselineId: 'a', prefillRatio: one, decodeRatio: one, timeToFirstTokenRatio: one })
    expect(progress).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  })

  test('refuses a prompt that the context cannot hold', async () => {
    const subject = { modelId: 'a', runtime: createTableRuntime('a', () => [1], 500, 32), peakGpuBytes: () => 0 }
    await expect(measureThroughput([subject], { promptTokens: 30, generatedTokens: 3, warmups: 0, repeats: 1 })).rejects.toMatchObject({
      code: 'runtime.context-exceeded',
    })
  })

  test('prompts differ from the first token between rounds', () => {
    expect(syntheticPrompt(4, 500, 0)).toEqual(syntheticPrompt(4, 500, 0))
    expect(syntheticPrompt(4, 500, 0)[0]).not.toBe(syntheticPrompt(4, 500, 1)[0])
    expect(Math.max(...syntheticPrompt(1000, 500, 3))).toBeLessThan(500)
  })

  test('nothing that is timed comes out of the prefix cache, also when the same runtime is measured again', async () => {
    const { runtime } = createFakeRuntime()
    const cached: number[] = []
    const watched = watchCache(runtime, cached)
    const subject = { modelId: 'a', runtime: watched, peakGpuBytes: () => 0 }
    const options = { promptTokens: 48, generatedTokens: 2, warmups: 1, repeats: 2 }
    await measureThroughput([subject], options)
    await measureThroughput([subject], options)
    await measureGrid([subject], { prefillTokens: [48, 64], batches: [], contexts: [], decodeTokens: 1, warmups: 1, repeats: 2 })
    expect(cached).toEqual(Array.from({ length: 12 }, () => 0))
    // A load shares prefixes within itself only.
    cached.length = 0
    const prompt = { tokens: Array.from({ length: 48 }, (_, i) => i), text: '', promptTokens: 48, outputTokens: 1 }
    const send = async (target = createRuntimeLoadTarget(watched, 'a')): Promise<typeof target> => {
      await target.send(prompt, 0, () => {}, new AbortController().signal)
      return target
    }
    await send(await send())
    await send()
    expect(cached).toEqual([0, 32, 0])
    await runtime[Symbol.asyncDispose]()
  })

  test('median of an even number of values is the mean of the middle two', () => {
    expect(summarize([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4, n: 4 })
  })
})
