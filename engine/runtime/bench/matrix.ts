/**
 * The determinism matrix of specs/runtime.md §9.3 with a real model on a real adapter: token ids and log-probability bits of every request under
 * each variation against the same request alone, cold, unchunked and without speculation. Exits with 1 if any bit differs.
 *
 *   node engine/runtime/bench/matrix.ts [model folder] [adapter] [kv type]      ('' = the default: the demo model, the best adapter, f16)
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseKvSetting } from '../../gpu/kv-format.ts'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { LocalRuntime } from '../local-runtime.ts'
import { openRuntime } from '../open-runtime.ts'
import type { GenerationRequest, OpenRuntimeOptions, Runtime, SamplingParameters } from '../types.ts'

const asset = (path: string): string => fileURLToPath(new URL(`../../../assets/${path}`, import.meta.url))
const [folderText = '', adapterText = '', kvText = 'f16', mode = ''] = process.argv.slice(2)
const folder = folderText === '' ? asset('demo-model') : folderText
const adapter = adapterText === '' ? null : adapterText
const kvDtype = parseKvSetting(kvText)
if (kvDtype === null) throw new Error(`${kvText} is no cache type`)

const CONTEXT = 256
/** Tokens of an answer; the first three prompts get long ones, which outgrow a scarce cache. */
const OUTPUT = 24
const LONG_OUTPUT = 80
const tokenizer = await loadTokenizer(folder)
const text = tokenizer.encode(readFileSync(asset('demo-eval/perplexity.txt'), 'utf8').slice(0, 4000), { addSpecialTokens: false })
const GREEDY: SamplingParameters = { temperature: 0, topK: 0, topP: 1, minP: 0 }
const samplings: readonly SamplingParameters[] = [
  GREEDY,
  { ...GREEDY, temperature: 1, seed: 7 },
  { ...GREEDY, temperature: 0.8, topK: 40, topP: 0.9, minP: 0.01, seed: 2 ** 53 + 2 },
  { ...GREEDY, presencePenalty: 0.8, frequencyPenalty: 0.4, repetitionPenalty: 1.2 },
  { ...GREEDY, temperature: 1, seed: 3, frequencyPenalty: 1, logitBias: new Map([[5, -100]]), badWords: [Array.from(text.slice(10, 12))] },
  { ...GREEDY, temperature: 0.9, seed: 5, topP: 0.7, repetitionPenalty: 1.3 },
]
/** Prompts of 20 … 120 tokens, two of them with a common beginning, one of them repetitive so that lookup has something to find. */
const jobs: readonly Omit<GenerationRequest, 'id'>[] = samplings.map((sampling, i) => {
  const start = i < 2 ? 0 : 60 * i
  const prompt = text.slice(start, start + 20 + 20 * i)
  const promptTokens = i === 3 ? Uint32Array.from([...prompt.slice(0, 30), ...prompt.slice(0, 30), ...prompt.slice(0, 20)]) : prompt
  return { promptTokens, sampling, maxTokens: i < 3 ? LONG_OUTPUT : OUTPUT, ignoreEos: true, topLogprobs: 2, minTokens: i === 4 ? 10 : 0 }
})

type Bits = { readonly ids: readonly number[]; readonly logprobs: readonly number[]; readonly top: readonly number[] }

const bits = (values: readonly number[]): number[] => [...new Uint32Array(Float32Array.from(values).buffer)]

async function run(runtime: Runtime, index: number, signal?: AbortSignal): Promise<Bits> {
  const job = jobs[index]
  if (job === undefined) throw new Error(`no job ${index}`)
  const found = { ids: [] as number[], logprobs: [] as number[], top: [] as number[] }
  for await (const event of runtime.generate({ ...job, id: crypto.randomUUID(), signal })) {
    if (event.kind !== 'tokens') continue
    found.ids.push(...event.ids)
    found.logprobs.push(...bits(event.logprobs))
    found.top.push(...bits((event.top ?? []).flat().map(({ logprob }) => logprob)))
  }
  return found
}

await using backend = await openBackend(adapter)
const open = (options: Partial<OpenRuntimeOptions>): Promise<Runtime> =>
  openRuntime({
    source: folder,
    backend,
    modelId: 'matrix',
    contextTokens: CONTEXT,
    kvDtype,
    tokenizer: null,
    kvTokens: 8 * CONTEXT,
    ...options,
  })
const all = jobs.map((_, index) => index)

const alone: Bits[] = []
{
  await using runtime = await open({ maxSequences: 1, prefixCache: false, fixedTokenBudget: 256 })
  for (const index of all) alone.push(await run(runtime, index))
}

if (mode === 'alone') {
  // B10: what this process found, for the one that started it.
  process.stdout.write(JSON.stringify(alone))
  process.exit(0)
}

let failures = 0
console.log(`${folder.split(/[\\/]/).at(-1)}, ${kvDtype} cache, ${backend.id}: ${jobs.length} requests`)
console.log('| variation | requests | tokens | identical bits | met |\n| --- | --- | --- | --- | --- |')

/** `order`: which job each result belongs to. */
async function vary(
  name: string,
  options: Partial<OpenRuntimeOptions>,
  order: readonly number[],
  body: (runtime: Runtime) => Promise<readonly Bits[]>,
) {
  await using runtime = await open(options)
  const results = await body(runtime)
  const same = results.filter((result, i) => JSON.stringify(result) === JSON.stringify(alone[order[i] ?? 0])).length
  const tokens = results.reduce((sum, { ids }) => sum + ids.length, 0)
  if (same < results.length) failures++
  const { speculation, preemptions, cachedPromptTokens, transfers } = runtime.telemetry()
  const met = [
    preemptions > 0 ? `${preemptions} preemptions` : '',
    cachedPromptTokens > 0 ? `${cachedPromptTokens} cached tokens` : '',
    speculation === undefined ? '' : `${speculation.acceptedTokens} of ${speculation.draftTokens} guesses right`,
    transfers === undefined ? '' : `${transfers.tokens} tokens handed over`,
  ]
  console.log(`| ${name} | ${results.length} | ${tokens} | ${same} of ${results.length} | ${met.filter(Boolean).join(', ')} |`)
}
const together = (runtime: Runtime): Promise<readonly Bits[]> => Promise.all(all.map((index) => run(runtime, index)))

await vary('B1 batch', { prefixCache: false, fixedTokenBudget: 256 }, all, together)
for (const fixedTokenBudget of [1, 7, 16, 17, 64])
  await vary(`B2 ${fixedTokenBudget} tokens per step`, { prefixCache: false, fixedTokenBudget }, all, together)
await vary('B3 cold, then warm', {}, [...all, ...all], async (runtime) => [...(await together(runtime)), ...(await together(runtime))])
await vary('B3 through decode-written blocks', {}, all, async (runtime) => {
  const first = await run(runtime, 0)
  const longer = Uint32Array.from([...(jobs[0]?.promptTokens ?? []), ...first.ids, 1, 2, 3])
  // Continues the first answer, so that its blocks are found again before the jobs themselves run.
  for await (const _ of runtime.generate({ id: 'next', promptTokens: longer, sampling: GREEDY, maxTokens: 40 })) continue
  return together(runtime)
})
for (const tokens of [1, 3, 8]) await vary(`B4 lookup, ${tokens} guesses`, { speculation: { kind: 'ngram', tokens } }, all, together)
for (const tokens of [1, 4])
  await vary(`B4 draft (itself), ${tokens} guesses`, { speculation: { kind: 'draft', source: folder, tokens } }, all, together)
/** Barely more than one context: room for the prompts, not for what they grow to. */
const SCARCE = { contextTokens: 160, kvTokens: 160, maxSequences: 6 }
const growing = [0, 1, 2, 0, 1, 2]
const grow = (runtime: Runtime): Promise<readonly Bits[]> => Promise.all(growing.map((index) => run(runtime, index)))
await vary('B5 preemption', { ...SCARCE, prefixCache: false }, growing, grow)
await vary('B5 preemption with speculation', { ...SCARCE, speculation: { kind: 'ngram', tokens: 4 } }, growing, grow)
await vary('B6 other blocks', {}, all, async (runtime) => {
  if (!(runtime instanceof LocalRuntime)) throw new Error('not in this process')
  using _held = await runtime.reserve(new Uint32Array(230), undefined)
  const found: Bits[] = []
  for (const index of all.toReversed()) found.unshift(await run(runtime, index))
  return found
})
await vary('B7 neighbours that leave', {}, all, async (runtime) => {
  const leaving = all.map((index) => {
    const stop = new AbortController()
    setTimeout(() => stop.abort(), 20 * (index + 1))
    return run(runtime, index, stop.signal)
  })
  const found = await together(runtime)
  await Promise.all(leaving)
  return found
})
await vary('B8 prompts read by another runtime', { disaggregation: { prefillEngines: 1 } }, all, together)

/** One answer of job 1 with that seed; undefined draws one. */
async function sampled(runtime: Runtime, seed: number | undefined): Promise<{ readonly ids: string; readonly seed: number }> {
  const ids: number[] = []
  const job = jobs[1]
  if (job === undefined) throw new Error('no job 1')
  for await (const event of runtime.generate({ ...job, sampling: { ...job.sampling, seed }, id: crypto.randomUUID() })) {
    if (event.kind === 'tokens') ids.push(...event.ids)
    else if (event.kind === 'finished') return { ids: ids.join(), seed: event.stats.seed }
  }
  throw new Error('no end')
}

{
  await using runtime = await open({})
  const drawn = await sampled(runtime, undefined)
  const [again, other] = [await sampled(runtime, drawn.seed), await sampled(runtime, drawn.seed + 1)]
  const right = again.ids === drawn.ids && other.ids !== drawn.ids
  if (!right) failures++
  console.log(`| B9 a drawn seed, said and used again; another | 3 | ${3 * LONG_OUTPUT} | ${right ? 'same, same, other' : 'WRONG'} |  |`)
}

// The adapter by its name: what is best may depend on who asks first.
const restarted = spawnSync(process.execPath, [fileURLToPath(import.meta.url), folder, backend.id, kvText, 'alone'], {
  encoding: 'utf8',
  maxBuffer: 1 << 26,
})
const other = restarted.status === 0 ? (JSON.parse(restarted.stdout) as Bits[]) : []
const same = alone.filter((result, i) => JSON.stringify(result) === JSON.stringify(other[i])).length
if (same < alone.length) failures++
const tokens = alone.reduce((sum, { ids }) => sum + ids.length, 0)
console.log(`| B10 another process | ${alone.length} | ${tokens} | ${same} of ${alone.length} |  |`)
process.exitCode = failures === 0 ? 0 : 1
