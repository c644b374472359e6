/**
 * Whole runtimes on real backends: golden values made elsewhere, and bit-identity of ids and log-probabilities whatever else runs, however
 * the prompt is cut and whatever the cache holds (specs/runtime.md §9.3: B1, B2, B3, B5, B9).
 */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openCheckpoint } from '../checkpoint/open.ts'
import type { Backend } from '../gpu/program.ts'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { testBackends } from '../gpu/test/adapters.ts'
import { goldenPrompts, hasSharedData, MISSING_DATA, modelFolder } from '../model/test/golden-data.ts'
import type { GoldenPrompt } from '../model/test/golden-data.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import { openRuntime } from './open-runtime.ts'
import { scorePair } from './pair.ts'
import { profileStep } from './profile.ts'
import { collect, GREEDY } from './test/fake-runtime.ts'
import type { OpenRuntimeOptions, Runtime } from './types.ts'

/** A 4-bit model of 2 layers and vocabulary 160, small enough to run hundreds of times. */
const TINY = modelFolder('w4a16-asym-g32')
const DEMO = modelFolder('demo')
/** Log-probabilities on a GPU against golden values (issue: 2e-3). */
const TOLERANCE = 2e-3

if (!hasSharedData) process.stderr.write(`open-runtime.test.ts ${MISSING_DATA}\n`)

const backends = [
  { name: 'reference', open: () => Promise.resolve(createReferenceBackend()) },
  ...(await testBackends()).map(({ name, open }) => ({ name, open: () => open() })),
]

describe.each(backends)('$name', ({ name, open }) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await open()
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  const openModel = (source: string, options: Partial<OpenRuntimeOptions> = {}): Promise<Runtime> =>
    openRuntime({ source, backend, modelId: 'model', contextTokens: 512, kvDtype: 'f32', ...options })

  test.runIf(hasSharedData)('continues greedily and scores as the golden values say, all prompts in one batch', async () => {
    await using runtime = await openModel(modelFolder('stories260k'))
    const prompts = goldenPrompts('stories260k')
    const results = await Promise.all(
      prompts.map(async (prompt) => {
        const promptTokens = Uint32Array.from(prompt.tokens)
        const [scored, generated] = await Promise.all([
          prompt.tokens.length > 1 ? runtime.score({ tokens: promptTokens, from: 1 }) : null,
          collect(runtime, { promptTokens, maxTokens: prompt.greedy.length, ignoreEos: true }),
        ])
        return { prompt, scored, generated }
      }),
    )
    for (const { prompt, scored, generated } of results) {
      expect(worst(prompt.logprobs ?? [], [...(scored?.logprobs ?? [])])).toBeLessThanOrEqual(TOLERANCE)
      expect(comparable(prompt, generated.ids)).toEqual(comparable(prompt, prompt.greedy))
    }
    expect(prompts.some((prompt) => comparable(prompt, prompt.greedy).length === 32)).toBe(true)
  })

  test('answers a question with the demo model’s own template, and the next one from its cache', { timeout: 120_000 }, async () => {
    await using runtime = await openModel(DEMO)
    const tokenizer = await loadTokenizer(DEMO)
    const question = { role: 'user', content: 'What is the name of the mayor?' }
    const promptTokens = tokenizer.encodeChat({ messages: [question], addGenerationPrompt: true })
    const first = await collect(runtime, { promptTokens })
    expect(first).toMatchObject({
      text: 'Tess is the mayor of Tidewater.',
      finished: { reason: 'stop', stopTokenId: 2, stats: { cachedTokens: 0 } },
    })
    const messages = [question, { role: 'assistant', content: first.text }, { role: 'user', content: 'Where does Tess live?' }]
    const second = await collect(runtime, { promptTokens: tokenizer.encodeChat({ messages, addGenerationPrompt: true }), maxTokens: 4 })
    expect(second.finished.stats.cachedTokens).toBe(32)
    const stopped = await collect(runtime, { promptTokens, stopStrings: ['or of'] })
    expect(stopped).toMatchObject({ text: 'Tess is the may', finished: { reason: 'stop', stopString: 'or of' } })
  })

  test.runIf(name === backends[1]?.name)(
    'prefills only what is new in a second turn, and answers a warm 500-token prefix in a third of the time',
    { timeout: 120_000 },
    async () => {
      await using runtime = await openModel(DEMO, { contextTokens: 1024, kvTokens: 4096 })
      const tokenizer = await loadTokenizer(DEMO)
      const text = tokenizer.encode(readFileSync(`${DEMO}/../demo-eval/perplexity.txt`, 'utf8').slice(0, 8000), { addSpecialTokens: false })
      const once = async (promptTokens: Uint32Array): Promise<{ firstTokenMs: number; computed: number; cached: number }> => {
        const before = runtime.telemetry().promptTokens
        const { stats } = (await collect(runtime, { promptTokens, maxTokens: 1, ignoreEos: true })).finished
        return {
          firstTokenMs: stats.firstTokenMs ?? Number.NaN,
          computed: runtime.telemetry().promptTokens - before,
          cached: stats.cachedTokens,
        }
      }
      const cold = [await once(text.slice(0, 503)), await once(text.slice(600, 1103))]
      const warm = [await once(text.slice(0, 503)), await once(text.slice(600, 1103))]
      expect([...cold, ...warm].map(({ cached, computed }) => [cached, computed])).toEqual([
        [0, 503],
        [0, 503],
        [480, 23],
        [480, 23],
      ])
      expect(least(warm) / least(cold)).toBeLessThanOrEqual(1 / 3)
      // The turn that follows: the first one, its answer, and forty tokens more.
      expect(await once(text.slice(0, 552))).toMatchObject({ cached: 480, computed: 72 })
    },
  )

  describe('same bits', () => {
    const jobs = Array.from({ length: 8 }, (_, i) => ({
      promptTokens: Uint32Array.from({ length: 3 + ((i * 29) % 70) }, (__, t) => 2 + ((t * 7 + (i % 3) * 11) % 150)),
      maxTokens: 6 + ((i * 5) % 9),
      sampling:
        i === 2
          ? { ...GREEDY, presencePenalty: 0.5, frequencyPenalty: 0.25, repetitionPenalty: 1.3 }
          : i === 4
            ? {
                ...GREEDY,
                temperature: 1,
                seed: 4,
                allowedTokenIds: [5, 6, 7, 8, 9, 10, 11, 40],
                badWords: [[5, 6], [7]],
                frequencyPenalty: 1,
              }
            : i % 2 === 0
              ? GREEDY
              : { temperature: 0.9, topK: i === 3 ? 20 : 0, topP: i === 5 ? 0.8 : 1, minP: i === 7 ? 0.05 : 0, seed: i },
      ignoreEos: true,
    }))
    const scored = Uint32Array.from({ length: 61 }, (_, t) => 2 + ((t * 13) % 150))

    const run = async (runtime: Runtime, job: (typeof jobs)[number]) => {
      const { events, ids } = await collect(runtime, job)
      return { ids, logprobs: bits(events.flatMap((event) => (event.kind === 'tokens' ? event.logprobs : []))) }
    }
    const score = async (runtime: Runtime) => bits([...(await runtime.score({ tokens: scored, from: 1 })).logprobs])
    const solo = async () => {
      await using runtime = await openModel(TINY, { contextTokens: 128, maxSequences: 1, fixedTokenBudget: 256, prefixCache: false })
      const generated = []
      for (const job of jobs) generated.push(await run(runtime, job))
      return { generated, scores: await score(runtime) }
    }
    let alone: Awaited<ReturnType<typeof solo>>
    beforeAll(async () => {
      alone = await solo()
    })

    test.each([1, 7, 16, 17, 64, 256])('in a batch, with %i tokens per step', async (fixedTokenBudget) => {
      await using runtime = await openModel(TINY, { contextTokens: 128, maxSequences: 5, kvTokens: 400, fixedTokenBudget })
      const [scores, ...generated] = await Promise.all([score(runtime), ...jobs.map((job) => run(runtime, job))])
      expect({ generated, scores }).toEqual(alone)
    })

    test('from a warm cache, whole and in part', async () => {
      await using runtime = await openModel(TINY, { contextTokens: 128, maxSequences: 3, kvTokens: 1024, fixedTokenBudget: 40 })
      const first = await Promise.all(jobs.map((job) => run(runtime, job)))
      const again = await Promise.all(jobs.toReversed().map((job) => run(runtime, job)))
      expect([first, again.toReversed()]).toEqual([alone.generated, alone.generated])
      expect(runtime.telemetry().cachedPromptTokens).toBeGreaterThan(100)
    })

    test.each([
      ['prompt lookup', { kind: 'ngram', tokens: 8 }],
      ['a draft model', { kind: 'draft', source: TINY, tokens: 3 }],
    ] as const)('while speculating by %s', async (_, speculation) => {
      await using runtime = await openModel(TINY, { contextTokens: 128, maxSequences: 4, kvTokens: 300, fixedTokenBudget: 64, speculation })
      expect(await Promise.all(jobs.map((job) => run(runtime, job)))).toEqual(alone.generated)
      const { acceptedTokens, draftTokens } = runtime.telemetry().speculation!
      // The model is its own draft and shares the noise: it is never wrong.
      expect(speculation.kind === 'draft' ? draftTokens - acceptedTokens : 0).toBe(0)
      expect(acceptedTokens).toBeGreaterThan(0)
    })

    test('after preemption', async () => {
      await using runtime = await openModel(TINY, { contextTokens: 96, maxSequences: 6, fixedTokenBudget: 64, kvTokens: 96 })
      const growing = jobs.map((job) => ({ ...job, promptTokens: job.promptTokens.slice(0, 30), maxTokens: 60 }))
      const together = await Promise.all(growing.map((job) => run(runtime, job)))
      await using single = await openModel(TINY, { contextTokens: 96, maxSequences: 1, fixedTokenBudget: 256, prefixCache: false })
      const apart = []
      for (const job of growing) apart.push(await run(single, job))
      expect(together).toEqual(apart)
      expect(runtime.telemetry().preemptions).toBeGreaterThan(0)
    })
  })

  test('samples from a seed what the reference samples', { timeout: 120_000 }, async () => {
    const sampling = { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.02, seed: 2 ** 60 + 4096 }
    const request = { promptTokens: Uint32Array.of(5, 17, 99), sampling, maxTokens: 40, ignoreEos: true }
    await using runtime = await openModel(TINY, { contextTokens: 128 })
    const reference = createReferenceBackend()
    await using exact = await openRuntime({ source: TINY, backend: reference, modelId: 'exact', contextTokens: 128, kvDtype: 'f32' })
    const [found, expected] = await Promise.all([collect(runtime, request), collect(exact, request)])
    expect(found.ids).toEqual(expected.ids)
    expect(new Set(found.ids).size).toBeGreaterThan(5)
  })

  test('compares two models in lock-step as their scores do', async () => {
    await using baseline = await openModel(modelFolder('w8a16-channel'), { modelId: 'eight', contextTokens: 128, fixedTokenBudget: 23 })
    await using candidate = await openModel(TINY, { modelId: 'four', contextTokens: 128, fixedTokenBudget: 64 })
    const request = { tokens: Uint32Array.from({ length: 100 }, (_, t) => (t * 13) % 160), from: 10 }
    const drift = await scorePair(baseline, candidate, request)
    const [left, right] = await Promise.all([baseline.score(request), candidate.score(request)])
    expect(bits([...drift.baselineTargetLogprob])).toEqual(bits([...left.logprobs]))
    expect(bits([...drift.candidateTargetLogprob])).toEqual(bits([...right.logprobs]))
    expect([drift.baselineArgmax, drift.candidateArgmax]).toEqual([left.argmax, right.argmax])
    expect(Math.min(...drift.kld)).toBeGreaterThan(0.01)
    const self = await scorePair(candidate, candidate, request)
    expect(Math.max(...self.kld.map(Math.abs))).toBeLessThan(1e-6)
  })

  test('reports progress, leaves nothing on the device when aborted or unloaded, and opens folders without a tokenizer', async () => {
    const phases: string[] = []
    const runtime = await openModel(TINY, { modelId: 'tiny', onProgress: ({ phase }) => phases.push(phase) })
    expect([...new Set(phases)]).toEqual(['reading', 'uploading', 'calibrating'])
    expect(runtime.info).toMatchObject({ contextLimit: 256, modelContextLimit: 256, vocabulary: 160, eosTokenIds: [1], kvDtype: 'f32' })
    expect(backend.usage().has('model:tiny')).toBe(true)
    await runtime[Symbol.asyncDispose]()
    expect(backend.usage().has('model:tiny')).toBe(false)

    const controller = new AbortController()
    const reason = new Error('enough')
    const opening = openModel(DEMO, {
      modelId: 'half',
      signal: controller.signal,
      onProgress: ({ phase, doneBytes }) => void (phase === 'uploading' && doneBytes > 0 && controller.abort(reason)),
    })
    await expect(opening).rejects.toBe(reason)
    expect(backend.usage().has('model:half')).toBe(false)
  })

  test('uses an open checkpoint without closing it', async () => {
    await using checkpoint = await openCheckpoint(TINY)
    await using runtime = await openRuntime({ source: checkpoint, backend, modelId: 'tiny', contextTokens: 64, kvDtype: 'f16' })
    expect(runtime.info.contextLimit).toBe(64)
    const [tensor] = checkpoint.tensors.keys()
    expect((await checkpoint.open(tensor!).read(0, 4)).length).toBe(4)
  })

  test('profiles a step between those of a request, which does not notice', async () => {
    await using runtime = await openModel(TINY, { contextTokens: 128, kvTokens: 256 })
    const request = { promptTokens: Uint32Array.of(3, 4), maxTokens: 20, ignoreEos: true }
    const [decode, prefill, during] = await Promise.all([
      profileStep(runtime, { tokens: 1, context: 100 }),
      profileStep(runtime, { tokens: 64, context: 1_000_000 }),
      collect(runtime, request),
    ])
    for (const timings of [decode, prefill]) {
      expect(timings.length).toBeGreaterThan(3)
      expect(timings.every(({ milliseconds, dispatches }) => milliseconds >= 0 && dispatches > 0)).toBe(true)
    }
    expect((await collect(runtime, request)).ids).toEqual(during.ids)
    expect(runtime.telemetry().kvBlocksUsed).toBe(0)
  })

  test.runIf(name !== 'reference')('fails what is in flight when the device goes, and opens again on a new one', async () => {
    const doomed = await open()
    const runtime = await openRuntime({ source: TINY, backend: doomed, modelId: 'tiny', contextTokens: 128, kvDtype: 'f32' })
    const request = { promptTokens: Uint32Array.of(3, 4), maxTokens: 100, ignoreEos: true }
    const score = runtime.score({ tokens: new Uint32Array(100), from: 1 }).catch((error: unknown) => error)
    const seen: string[] = []
    const run = async (): Promise<void> => {
      for await (const event of runtime.generate({ id: 'a', sampling: GREEDY, ...request })) {
        seen.push(event.kind)
        if (seen.length === 3) await doomed[Symbol.asyncDispose]()
      }
    }
    await expect(run()).rejects.toMatchObject({ code: 'gpu.device-lost' })
    expect(seen.slice(0, 3)).toEqual(['prefill', 'tokens', 'tokens'])
    expect(await score).toSatisfy((ended) => 'logprobs' in (ended as object) || (ended as { code: string }).code === 'gpu.device-lost')
    expect(runtime.failure).toMatchObject({ code: 'gpu.device-lost' })
    await expect(collect(runtime, request)).rejects.toMatchObject({ code: 'gpu.device-lost' })
    await runtime[Symbol.asyncDispose]()
    await using again = await openModel(TINY, { contextTokens: 128 })
    expect((await collect(again, request)).ids.length).toBe(100)
  })

  test.runIf(name !== 'reference')('holds every golden greedy token of the demo model', { timeout: 240_000 }, async () => {
    await using runtime = await openModel(DEMO, { contextTokens: 1024 })
    const prompts = goldenPrompts('demo')
    const outputs = await Promise.all(
      prompts.map(({ tokens, greedy }) =>
        collect(runtime, { promptTokens: Uint32Array.from(tokens), maxTokens: greedy.length, ignoreEos: true }),
      ),
    )
    for (const [i, prompt] of prompts.entries()) expect(comparable(prompt, outputs[i]!.ids)).toEqual(comparable(prompt, prompt.greedy))
    const golden = JSON.parse(readFileSync(new URL('../../../shared/data/golden/demo.json', import.meta.url), 'utf8')) as {
      prompts: { greedy_text: string }[]
    }
    const tokenizer = await loadTokenizer(DEMO)
    const written = outputs.map(({ ids }) => tokenizer.decode(ids, { skipSpecialTokens: false }))
    expect(written[0]).toBe(golden.prompts[0]!.greedy_text)
  })
})

function least(of: readonly { readonly firstTokenMs: number }[]): number {
  return Math.min(...of.map(({ firstTokenMs }) => firstTokenMs))
}

/** Greedy tokens up to the first choice that was too close to call. */
function comparable({ gaps, greedy }: GoldenPrompt, ids: readonly number[]): readonly number[] {
  const close = typeof gaps === 'number' ? (gaps > 2 * TOLERANCE ? -1 : 0) : gaps.findIndex((gap) => gap <= 2 * TOLERANCE)
  return ids.slice(0, close < 0 ? greedy.length : close)
}

function worst(expected: readonly number[], found: readonly number[]): number {
  if (expected.length !== found.length) return Infinity
  return expected.reduce((max, value, i) => Math.max(max, Math.abs(value - found[i]!)), 0)
}

/** Bit patterns, so that equality is exact and −0 or NaN cannot hide. */
function bits(values: readonly number[]): readonly number[] {
  return [...new Uint32Array(Float32Array.from(values).buffer)]
}
