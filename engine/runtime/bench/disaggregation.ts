/**
 * What reading prompts apart does to the answers beside them: streams that decode all the while, and long prompts that arrive one after another.
 * Gaps between the streams' words, time to first token of the long prompts, and tokens of both, for one runtime with its prompts in chunks, one
 * with whole prompts, prompts on a runtime of their own on the same device, and, given a second adapter, on that. All in one run, in turns.
 *
 *   node engine/runtime/bench/disaggregation.ts [model folder] [adapter] [second adapter] [rounds] [prompt tokens]     ('' = the default)
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { openRuntime } from '../open-runtime.ts'
import type { OpenRuntimeOptions, Runtime } from '../types.ts'

const asset = (path: string): string => fileURLToPath(new URL(`../../../assets/${path}`, import.meta.url))
const [folderText = '', adapterText = '', secondAdapter = '', roundsText = '3', promptText = '900'] = process.argv.slice(2)
const folder = folderText === '' ? asset('demo-model') : folderText
const ROUNDS = Number(roundsText)
const PROMPT = Number(promptText)
const STREAMS = 3
/** One after the other, each as soon as the one before has its first token. */
const LONG_PROMPTS = 4
const CONTEXT = PROMPT + 100
const GREEDY = { temperature: 0, topK: 0, topP: 1, minP: 0 }

const tokenizer = await loadTokenizer(folder)
const text = tokenizer.encode(readFileSync(asset('demo-eval/perplexity.txt'), 'utf8').slice(0, 200_000), { addSpecialTokens: false })
await using backend = await openBackend(adapterText === '' ? null : adapterText)

const common = { source: folder, backend, contextTokens: CONTEXT, kvDtype: 'f16', maxSequences: STREAMS + 2, tokenizer: null } as const
const kvTokens = (STREAMS + 3) * CONTEXT
const modes: readonly { readonly name: string; readonly options: Partial<OpenRuntimeOptions>; readonly second?: boolean }[] = [
  { name: 'one runtime, prompts in chunks', options: {} },
  { name: 'one runtime, prompts whole', options: { fixedTokenBudget: PROMPT + STREAMS } },
  { name: 'prompts apart, same device', options: { disaggregation: { prefillEngines: 1 } } },
  ...(secondAdapter === '' ? [] : [{ name: `prompts apart, on ${secondAdapter}`, options: {}, second: true }]),
]

interface Figures {
  readonly gaps: number[]
  readonly firstTokens: number[]
  words: number
  seconds: number
}
const figures = new Map<string, Figures>(modes.map(({ name }) => [name, { gaps: [], firstTokens: [], words: 0, seconds: 0 }]))

let nextId = 0
async function workload(runtime: Runtime, round: number, into: Figures): Promise<void> {
  const done = new AbortController()
  const began = performance.now()
  const started = Array.from({ length: STREAMS }, () => Promise.withResolvers<void>())
  const streams = started.map(async ({ resolve }, index) => {
    for (let turn = 0; !done.signal.aborted; turn++) {
      let last: number | null = null
      const promptTokens = text.slice(100 * index + turn, 100 * index + turn + 40)
      const request = { id: `${nextId++}`, promptTokens, sampling: GREEDY, maxTokens: CONTEXT - 60, ignoreEos: true, signal: done.signal }
      for await (const event of runtime.generate(request)) {
        if (event.kind !== 'tokens') continue
        const now = performance.now()
        if (last !== null) into.gaps.push(now - last)
        last = now
        into.words += event.ids.length
        resolve()
      }
    }
  })
  await Promise.all(started.map(({ promise }) => promise))
  for (let index = 0; index < LONG_PROMPTS; index++) {
    const start = 1000 + (round * LONG_PROMPTS + index) * 37
    const request = { id: `${nextId++}`, promptTokens: text.slice(start, start + PROMPT), sampling: GREEDY, maxTokens: 4, ignoreEos: true }
    for await (const event of runtime.generate(request)) {
      if (event.kind === 'finished') into.firstTokens.push(event.stats.firstTokenMs ?? Number.NaN)
    }
  }
  done.abort()
  await Promise.all(streams)
  into.seconds += (performance.now() - began) / 1000
}

const percentile = (values: readonly number[], share: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
}

for (let round = 0; round < ROUNDS; round++) {
  for (const turn of modes.keys()) {
    // Another one first each time: a machine that slows down must not favour one of them.
    const mode = modes[(turn + round) % modes.length]
    const into = mode === undefined ? undefined : figures.get(mode.name)
    if (mode === undefined || into === undefined) continue
    const disaggregation = mode.second === true ? { prefillEngines: 1, prefillBackend: await openBackend(secondAdapter) } : undefined
    await using runtime = await openRuntime({
      ...common,
      kvTokens,
      modelId: mode.name,
      ...mode.options,
      ...(disaggregation === undefined ? {} : { disaggregation }),
    })
    // Kernels of every shape are compiled before anything counts.
    await workload(runtime, ROUNDS + round, { gaps: [], firstTokens: [], words: 0, seconds: 0 })
    await workload(runtime, round, into)
  }
}
console.log(
  `${folder.split(/[\\/]/).at(-1)} on ${backend.id}: ${STREAMS} streams, beside them prompts of ${PROMPT} tokens, ${ROUNDS} rounds in turns`,
)
console.log('| prompts | gap p50 ms | gap p99 ms | longest gap ms | first token of a prompt p50 ms | words/s of the streams |')
console.log('| --- | --- | --- | --- | --- | --- |')
for (const [name, { gaps, firstTokens, words, seconds }] of figures) {
  const cells = [percentile(gaps, 0.5), percentile(gaps, 0.99), percentile(gaps, 1), percentile(firstTokens, 0.5), words / seconds]
  console.log(`| ${name} | ${cells.map((value) => value.toFixed(0)).join(' | ')} |`)
}
const chunked = figures.get('one runtime, prompts in chunks')
for (const { name } of modes.slice(2)) {
  const apart = figures.get(name)
  if (chunked === undefined || apart === undefined) continue
  const ratio = percentile(apart.gaps, 0.99) / percentile(chunked.gaps, 0.99)
  console.log(
    `${name}: p99 gap ${ratio.toFixed(2)} × that of prompts in chunks: ${ratio < 0.9 ? 'it helps here' : 'it does not help here'}`,
  )
}
