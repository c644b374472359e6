/**
 * Perplexity and drift of models on servers, through the job that the board queues. The models here are tables: the original gives the next letter of
 * the alphabet 0.55, its variant 0.4, both share the rest evenly over 15; the server gives the next 0.5, the one after it 0.3, the rest evenly over 14.
 * Divergences below are written out from those numbers.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { Job } from '../contract/index.ts'
import { startVllmServer } from '../evaluate/test/vllm-server.ts'
import type { VllmServer, VllmServerOptions } from '../evaluate/test/vllm-server.ts'
import { jobIn, openStudio } from './test/open-studio.ts'
import type { OpenStudio } from './test/open-studio.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'
import { writeTinyModel } from './test/tiny-model.ts'

const temporaryFolder = useTemporaryFolders()
const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})

const TEXT_ONLY = { perplexity: true, tasks: false, throughput: false } as const
const VOCABULARY = 16
const encode = (text: string): number[] => Array.from(text, (letter) => (letter.codePointAt(0) ?? 0) % VOCABULARY)
/** Two letters a token, and one for the end of a text. */
const pairs = (text: string): number[] => (text === '</s>' ? [0] : encode(text).filter((_, i) => i % 2 === 1))
const letters = (ids: readonly number[]): string => ids.map((id) => (id === 0 ? 'p' : String.fromCodePoint(96 + id))).join('')
const table = (previous: number): number[] =>
  Array.from({ length: VOCABULARY }, (_, id) => {
    const ahead = (id - previous + VOCABULARY) % VOCABULARY
    return ahead === 1 ? 0.5 : ahead === 2 ? 0.3 : 0.2 / 14
  })

/** KL(original ‖ server), whole: 0.55 against 0.5, 0.03 against 0.3, 14 times 0.03 against 0.2/14. */
const WHOLE = 0.55 * Math.log(1.1) + 0.03 * Math.log(0.1) + 0.42 * Math.log(2.1)
/** With only the most probable token known, which is the text's own: the rest is 0.45 against 0.5. */
const BOUND = 0.55 * Math.log(1.1) + 0.45 * Math.log(0.9)

async function studioWith(server: Partial<VllmServerOptions> = {}, folder = temporaryFolder()) {
  const far = await startVllmServer({ table, encode, decode: letters, ...server })
  closers.push(() => far.close())
  const opened = await openStudio(folder)
  let closing: Promise<void> | null = null
  const stop = (): Promise<void> => (closing ??= opened.studio.close())
  closers.push(stop)
  const { client } = opened
  const modelId = (await client.models.import({ path: writeTinyModel(join(folder, 'source')) })).id
  const remoteId = await add(opened, modelId, far, server.apiKey ?? null)
  return { ...opened, stop, far, folder, modelId, remoteId }
}

async function add({ client }: OpenStudio, parentId: string, far: VllmServer, apiKey: string | null): Promise<string> {
  return (await client.remotes.add({ parentId, url: far.url, model: null, name: 'Far', apiKeyVariable: null, apiKey })).id
}

async function measure({ client }: OpenStudio, modelId: string, baselineId: string | null = null): Promise<Job> {
  const [job] = await client.results.evaluate({ modelIds: [modelId], evaluate: TEXT_ONLY, baselineId })
  return jobIn(client, job!.id, 'succeeded', 'failed', 'cancelled')
}

async function setOf({ client }: OpenStudio, modelId: string) {
  return (await client.results.board({ modelId })).results.find((set) => set.modelId === modelId)!
}

describe('a server beside its original', () => {
  test('gives the figures that its table has, with its own name in the provenance', async () => {
    const studio = await studioWith()
    const { far, remoteId, modelId, folder } = studio
    const job = await measure(studio, remoteId)
    expect(job).toMatchObject({ state: 'succeeded', phases: [{ id: 'perplexity', state: 'done', done: 1120, total: 1120 }] })

    const own = await setOf(studio, remoteId)
    expect(own.perplexity).toMatchObject({ tokens: 1120, bytes: 1120, protocol: 'rolling', window: 512, note: null })
    expect(own.perplexity?.value).toBeCloseTo(2, 9)
    expect(own.perplexity?.bitsPerByte).toBeCloseTo(1, 9)
    expect(own.drift).toMatchObject({ baselineId: modelId, tokens: 1120, top1Agreement: 1, flips: 0, hasTokens: true, boundedByTop: 16 })
    for (const figure of [own.drift?.kldMean, own.drift?.kldMedian, own.drift?.kldMax]) expect(figure).toBeCloseTo(WHOLE, 6)
    expect(own.drift?.deltaPMean).toBeCloseTo(-0.05, 6)
    expect(own.drift?.deltaPRms).toBeCloseTo(0.05, 6)
    expect(own.drift?.logPerplexityRatio).toBeCloseTo(Math.log(0.55 / 0.5), 6)
    expect(own.provenance['perplexity']).toMatchObject({
      adapter: `remote: ${far.url}/v1`,
      adapterType: 'unknown',
      driver: 'far, vllm 0.25.1',
    })
    expect(own.provenance[`drift:${modelId}`]).toEqual(own.provenance['drift'])

    const original = await setOf(studio, modelId)
    expect(original.perplexity?.value).toBeCloseTo(1 / 0.55, 6)
    expect(original.perplexity?.tokenization).toBe(own.perplexity?.tokenization)
    // One protocol but for where keys and values are kept.
    expect(own.protocolKeys['perplexity']).toBe(original.protocolKeys['perplexity']?.replace(':kv-f32', ':served'))
    expect(readdirSync(join(folder, 'data', 'evaluation-cache'))).toEqual([])

    const tokens = await studio.client.results.tokens({ modelId: remoteId, limit: 2 })
    expect(tokens).toMatchObject({ baselineId: modelId, total: 1120, rows: [{ text: 'a', agrees: true }, { text: 'b' }] })
  })

  test('that lists fewer alternatives gives a lower bound, and says of how many', async () => {
    const studio = await studioWith({ maxLogprobs: 1 })
    expect((await measure(studio, studio.remoteId)).state).toBe('succeeded')
    const { drift, protocolKeys } = await setOf(studio, studio.remoteId)
    expect(drift).toMatchObject({ boundedByTop: 1, top1Agreement: 1 })
    expect(drift?.kldMean).toBeCloseTo(BOUND, 6)
    expect(BOUND).toBeLessThan(WHOLE)
    expect(protocolKeys['drift']).toMatch(/:top1$/)
    // 20 and 5 were refused once, then never asked again. The second window is the first over again, and so known.
    expect(studio.far.asked.map((body) => body['prompt_logprobs'])).toEqual([20, 5, 1, 1])
  })

  test('that only echoes has a perplexity, and the reason why there is no drift', async () => {
    const studio = await studioWith({ maxLogprobs: null, echoes: true })
    expect((await measure(studio, studio.remoteId)).state).toBe('succeeded')
    const { perplexity, drift } = await setOf(studio, studio.remoteId)
    expect(perplexity?.value).toBeCloseTo(2, 9)
    expect(perplexity?.withoutDrift).toMatch(/^Far tells .*--max-logprobs/)
    expect(drift).toBeNull()
  })

  test('that tells nothing of prompts fails by the option that it lacks', async () => {
    const studio = await studioWith({ maxLogprobs: 0 })
    const job = await measure(studio, studio.remoteId)
    expect(job).toMatchObject({ state: 'failed', error: { code: 'remote.unsupported' } })
    expect(job.error?.message).toMatch(/prompt_logprobs 20: .*greater than max allowed: 0.*echo is not supported/)
    expect(job.error?.hint).toMatch(/--max-logprobs 0/)
  })

  test('of another tokenizer is measured by itself: bits per byte are kept, drift is not', async () => {
    // A context that holds an eighth of a window: the plan's eight cover 512 tokens of 560.
    const studio = await studioWith({
      encode: pairs,
      contextLimit: 66,
      decode: (ids) => ids.map((id) => letters([(id + VOCABULARY - 1) % VOCABULARY, id])).join(''),
    })
    expect((await measure(studio, studio.remoteId)).state).toBe('succeeded')
    const { perplexity, drift } = await setOf(studio, studio.remoteId)
    expect(drift).toBeNull()
    expect(perplexity).toMatchObject({
      window: 64,
      tokens: 512,
      bytes: 1024,
      withoutDrift: expect.stringMatching(/splits the text into 560 tokens/),
    })
    // Every second letter follows with 0.3, the first after the prefix "p" as well: log2(1/0.3) bits for two bytes.
    expect(perplexity?.bitsPerByte).toBeCloseTo(Math.log2(1 / 0.3) / 2, 9)
    const original = await setOf(studio, studio.modelId)
    expect(original.perplexity).toBeNull()
  })
})

test('a server may be the baseline: of the original, and of another server; the drift from the original stays', async () => {
  const studio = await studioWith()
  const { modelId, remoteId, client } = studio
  const twin = await startVllmServer({ table, encode })
  closers.push(() => twin.close())
  const twinId = (await client.remotes.add({ parentId: modelId, url: twin.url, model: null, name: 'Twin', apiKeyVariable: null })).id
  for (const [id, baselineId] of [
    [twinId, null],
    [twinId, remoteId],
    [modelId, remoteId],
  ] as const)
    expect((await measure(studio, id, baselineId)).state).toBe('succeeded')

  const own = await setOf(studio, twinId)
  expect(own.drift?.baselineId).toBe(modelId)
  expect(own.drifts?.map(({ baselineId }) => baselineId)).toEqual([modelId, remoteId])
  // The same table: nothing to tell apart.
  expect(own.drifts?.[1]).toMatchObject({ kldMean: 0, kldMax: 0, top1Agreement: 1, logPerplexityRatio: 0 })
  const original = await setOf(studio, modelId)
  expect(original.drift).toBeNull()
  const [fromServer] = original.drifts ?? []
  const reverse = 0.5 * Math.log(1 / 1.1) + 0.3 * Math.log(10) + 0.2 * Math.log(1 / 2.1)
  expect(fromServer).toMatchObject({ baselineId: remoteId, boundedByTop: 16 })
  expect(fromServer?.kldMean).toBeCloseTo(reverse, 6)
  expect((await client.results.tokens({ modelId, baselineId: remoteId, limit: 1 })).baselineId).toBe(remoteId)
  await expect(client.results.evaluate({ modelIds: [remoteId], evaluate: { ...TEXT_ONLY, throughput: true } })).rejects.toThrow(
    /runs on a server/,
  )
})

describe('a job that is stopped', () => {
  test('goes on after a restart with the window that was not answered, once it has the key again', async () => {
    const arrived = Promise.withResolvers<void>()
    const hold = Promise.withResolvers<void>()
    let held = true
    const gate = async (answered: number): Promise<void> => {
      if (answered !== 1 || !held) return
      arrived.resolve()
      await hold.promise
    }
    const first = await studioWith({ gate, apiKey: 'secret' })
    const [job] = await first.client.results.evaluate({ modelIds: [first.remoteId], evaluate: TEXT_ONLY })
    await arrived.promise
    await first.stop()
    held = false
    hold.resolve()
    expect(first.far.asked).toHaveLength(2)

    const again = await openStudio(first.folder)
    closers.push(() => again.studio.close())
    await again.client.jobs.resume({ jobId: job!.id })
    const failed = await jobIn(again.client, job!.id, 'failed', 'succeeded')
    expect(failed).toMatchObject({
      state: 'failed',
      error: { code: 'remote.refused', hint: expect.stringMatching(/Add the server .* again, with its key/) },
    })
    expect(JSON.stringify(failed)).not.toContain('secret')
    expect(await add(again, first.modelId, first.far, 'secret')).toBe(first.remoteId)
    await again.client.jobs.resume({ jobId: job!.id })
    expect((await jobIn(again.client, job!.id, 'failed', 'succeeded')).state).toBe('succeeded')
    // Two different windows, of which the second was asked twice.
    expect(first.far.asked.map((body) => (body['prompt'] as number[]).length)).toEqual([513, 513, 513])
    expect((await setOf(again, first.remoteId)).drift?.kldMean).toBeCloseTo(WHOLE, 6)
  })

  test('by its user leaves nothing behind', async () => {
    const arrived = Promise.withResolvers<void>()
    const studio = await studioWith({
      gate: (answered) => {
        if (answered === 1) arrived.resolve()
        return answered === 1 ? new Promise(() => {}) : Promise.resolve()
      },
    })
    const [job] = await studio.client.results.evaluate({ modelIds: [studio.remoteId], evaluate: TEXT_ONLY })
    await arrived.promise
    await studio.client.jobs.cancel({ jobId: job!.id })
    await jobIn(studio.client, job!.id, 'cancelled')
    expect(readdirSync(join(studio.folder, 'data', 'evaluation-cache'))).toEqual([])
    expect((await setOf(studio, studio.remoteId)).perplexity).toBeNull()
  })
})
