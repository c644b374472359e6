/** Prompts read on one runtime and answered on another: the same bits as on one alone (B8), by way of bytes, and when the reader is lost. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { KvSetting } from '../../gpu/kv-format.ts'
import type { Backend } from '../../gpu/program.ts'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import { testBackends } from '../../gpu/test/adapters.ts'
import { hasSharedData, MISSING_DATA, modelFolder } from '../../model/test/golden-data.ts'
import { LocalRuntime } from '../local-runtime.ts'
import { openRuntime } from '../open-runtime.ts'
import { collect, GREEDY } from '../test/fake-runtime.ts'
import type { Runtime } from '../types.ts'
import { DisaggregatedRuntime, throughBytes } from './disaggregated-runtime.ts'
import { decodeHandover, encodeHandover, exportPrefix, importPrefix } from './handover.ts'

const TINY = modelFolder('w4a16-asym-g32')
if (!hasSharedData) process.stderr.write(`disaggregation.test.ts ${MISSING_DATA}\n`)

const backends = [
  { name: 'reference', kvDtype: 'int8', open: async (): Promise<Backend> => createReferenceBackend() },
  ...(await testBackends()).slice(0, 1).map(({ name, open }) => ({ name, kvDtype: 'f16', open: () => open() })),
] as const

const jobs = [0, 1, 2, 3].map((i) => ({
  promptTokens: Uint32Array.from({ length: 20 + 33 * i }, (_, t) => 2 + ((t * 7 + (i === 3 ? 0 : i) * 11) % 150)),
  sampling: i % 2 === 0 ? GREEDY : { ...GREEDY, temperature: 1, seed: i },
  maxTokens: 8,
  ignoreEos: true,
}))

const answer = async (runtime: Runtime, index: number) => {
  const { events, ids, finished } = await collect(runtime, jobs[index]!)
  const logprobs = events.flatMap((event) => (event.kind === 'tokens' ? event.logprobs : []))
  return { answer: { ids, logprobs: [...new Uint32Array(Float32Array.from(logprobs).buffer)] }, stats: finished.stats }
}

describe.runIf(hasSharedData).each(backends)('$name', ({ kvDtype, open: openBackend }) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await openBackend()
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  const open = async (modelId: string, kv: KvSetting = kvDtype as KvSetting): Promise<LocalRuntime> => {
    const options = { contextTokens: 160, kvDtype: kv, tokenizer: null, kvTokens: 400, fixedTokenBudget: 48, handover: true } as const
    const runtime = await openRuntime({ source: TINY, backend, modelId, ...options })
    if (!(runtime instanceof LocalRuntime)) throw new Error('not local')
    return runtime
  }
  it('answers with the same bits, through bytes, many at once, and again from decode’s own cache', async () => {
    const alone = []
    {
      await using single = await open('alone')
      for (const index of jobs.keys()) alone.push((await answer(single, index)).answer)
    }
    await using pair = new DisaggregatedRuntime({ prefill: [await open('p')], decode: await open('d'), transport: throughBytes })
    const first = await Promise.all([...jobs.keys()].map((index) => answer(pair, index)))
    expect(first.map((found) => found.answer)).toEqual(alone)
    // Prompts of 20, 53, 86 and 119 tokens in blocks of 32.
    expect(first.map(({ stats }) => (stats.transferredTokens ?? 0) + stats.cachedTokens)).toEqual([0, 32, 64, 96])
    const { transfers, recomputed, bytes } = pair.transferTelemetry()
    expect({ transfers, recomputed, moved: bytes > 0 }).toEqual({ transfers: 3, recomputed: 0, moved: true })
    const again = await answer(pair, 3)
    expect(again.answer).toEqual(alone[3])
    expect(again.stats).toMatchObject({ cachedTokens: 96 })
    expect(pair.transferTelemetry().transfers).toBe(3)
  })

  it('answers without its reader', async () => {
    const [prefill, decode] = [await open('p'), await open('d')]
    await using pair = new DisaggregatedRuntime({ prefill: [prefill], decode, transport: () => Promise.reject(new Error('no route')) })
    const found = await answer(pair, 2)
    await prefill[Symbol.asyncDispose]()
    const later = await answer(pair, 1)
    expect([found.stats.cachedTokens, later.stats.cachedTokens, pair.transferTelemetry().recomputed]).toEqual([0, 0, 1])
    await using single = await open('alone')
    expect([found.answer, later.answer]).toEqual([(await answer(single, 2)).answer, (await answer(single, 1)).answer])
  })

  it('opens as one runtime with several readers, each of which may be lost', async () => {
    const options = { contextTokens: 160, tokenizer: null, kvTokens: 400, fixedTokenBudget: 48 } as const
    const shared = { source: TINY, backend, kvDtype: kvDtype as KvSetting, ...options }
    const before = [...backend.usage().keys()]
    {
      const readers = await openBackend()
      await using whole = await openRuntime({
        ...shared,
        modelId: 'whole',
        disaggregation: { prefillEngines: 2, prefillBackend: readers },
      })
      await using single = await open('alone')
      const found = await Promise.all([...jobs.keys()].map((index) => answer(whole, index)))
      for (const [index, { answer: bits, stats }] of found.entries()) {
        expect(bits).toEqual((await answer(single, index)).answer)
        // Times are those of the whole way, the reading included.
        expect(stats.firstTokenMs).toBeGreaterThan(stats.queueMs ?? Infinity)
        expect(stats.totalMs).toBeGreaterThanOrEqual(stats.lastTokenMs ?? Infinity)
      }
      expect(whole.telemetry()).toMatchObject({ running: 0, transfers: { transfers: 3, recomputed: 0 } })
      expect([...readers.usage().keys()].length).toBeGreaterThan(0)
      // Log-probabilities of a prompt exist only where it is computed.
      const scored = await collect(whole, { ...jobs[2]!, promptLogprobs: 1 })
      expect([scored.finished.stats.transferredTokens, whole.telemetry().transfers?.transfers]).toEqual([undefined, 3])
      const wrong = collect(whole, { ...jobs[2]!, maxTokens: 0 })
      await expect(wrong).rejects.toMatchObject({ code: 'runtime.invalid-request' })
      expect(await whole.resetPrefixCache?.()).toBe(true)
      await readers[Symbol.asyncDispose]()
      expect((await answer(whole, 3)).answer).toEqual(found[3]!.answer)
      expect(whole.failure).toBeNull()
    }
    expect([...backend.usage().keys()]).toEqual(before)
    await expect(
      openRuntime({ ...shared, modelId: 'none', prefixCache: false, disaggregation: { prefillEngines: 1 } }),
    ).rejects.toMatchObject({ code: 'gpu.unsupported' })
    expect([...backend.usage().keys()]).toEqual(before)
  })

  it('takes only what fits, and refuses what is damaged', async () => {
    await using from = await open('from')
    await using into = await open('into')
    await using other = await open('other', 'f32')
    await answer(from, 2)
    const { promptTokens } = jobs[2]!
    const handover = (await exportPrefix(from, promptTokens, '', 0))!
    expect(handover.tokens.length).toBe(64)
    expect(await importPrefix(other, handover)).toBe(0)
    expect(await importPrefix(into, { ...handover, firstBlock: 1, bytes: handover.bytes.slice(handover.bytes.length / 2) })).toBe(0)
    await expect(importPrefix(into, { ...handover, bytes: handover.bytes.slice(4) })).rejects.toMatchObject({
      code: 'runtime.invalid-request',
    })
    const data = encodeHandover(handover)
    expect(decodeHandover(data)).toEqual(handover)
    for (let length = 0; length < data.length; length += 1 + Math.floor(data.length / 50)) {
      expect(() => decodeHandover(data.slice(0, length))).toThrow(expect.objectContaining({ code: 'runtime.invalid-request' }))
    }
    expect(await importPrefix(into, handover)).toBe(64)
    expect(into.core.pool.used).toBe(0)
    expect((await answer(into, 2)).stats.cachedTokens).toBe(64)
  })
})
