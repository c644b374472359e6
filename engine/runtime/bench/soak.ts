/**
 * Mixed traffic for a while: answers with every sampler option, grammars, scoring, speculation, aborts in every state, overlong prompts, invalid
 * options. Every answer that is not aborted must be bit for bit that of the same request alone; in the end nothing may be held.
 *
 *   node engine/runtime/bench/soak.ts [minutes] [model folder] [adapter] [seed]
 *                                       (default: a quarter of a minute, the demo model, the best adapter, a seed that is drawn and printed)
 */
import { readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { LatheError } from '../../contract/errors.ts'
import { randomFrom } from '../../gpu/test/numeric.ts'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { LocalRuntime } from '../local-runtime.ts'
import { openRuntime } from '../open-runtime.ts'
import type { GenerationRequest, Runtime, SamplingParameters } from '../types.ts'

const asset = (path: string): string => fileURLToPath(new URL(`../../../assets/${path}`, import.meta.url))
const [minutes = '0.25', folderText = '', adapterText = '', seedText = `${Date.now() % 1_000_000}`] = process.argv.slice(2)
const folder = folderText === '' ? asset('demo-model') : folderText
const adapter = adapterText === '' ? null : adapterText
console.log(`seed ${seedText}`)
const random = randomFrom(Number(seedText))
const CONTEXT = 192
/** At once; more than may run. */
const CLIENTS = 12
const JOBS = 24

const tokenizer = await loadTokenizer(folder)
const text = tokenizer.encode(readFileSync(asset('demo-eval/perplexity.txt'), 'utf8').slice(0, 40_000), { addSpecialTokens: false })
const plain: SamplingParameters = { temperature: 0, topK: 0, topP: 1, minP: 0 }
const options: readonly Partial<SamplingParameters>[] = [
  {},
  { temperature: 1, seed: 1 },
  { temperature: 0.7, topK: 30, topP: 0.9, seed: 2 },
  { repetitionPenalty: 1.2, presencePenalty: 0.5 },
  { temperature: 1, seed: 3, frequencyPenalty: 1, logitBias: new Map([[9, 4]]) },
  { temperature: 0.9, minP: 0.05, seed: 4, allowedTokenIds: Array.from({ length: 200 }, (_, id) => id + 5) },
]

function jobOf(index: number): Omit<GenerationRequest, 'id'> {
  const start = (index % 7) * 100
  // Every third alternates between two tokens' halves of the vocabulary, as a grammar would.
  let place = 0
  const words = [0, 1].map((side) => new Uint32Array(64).fill(side === 0 ? 0x55555555 : 0xaaaaaaaa))
  const mask =
    index % 3 === 0
      ? {
          mask: () => words[place % 2] ?? null,
          accept: (token: number) => token % 2 === place % 2 && ++place > 0,
          rollback: (count: number) => void (place -= count),
        }
      : undefined
  return {
    promptTokens: text.slice(start, start + 5 + ((index * 13) % 110)),
    sampling: { ...plain, ...options[index % options.length] },
    maxTokens: 4 + ((index * 7) % 40),
    ignoreEos: index % 2 === 0,
    minTokens: index % 4,
    topLogprobs: index % 3,
    priority: index % 2,
    mask,
  }
}

let nextId = 0
async function answer(runtime: Runtime, index: number, signal?: AbortSignal): Promise<string | null> {
  const ids: number[] = []
  const logprobs: number[] = []
  for await (const event of runtime.generate({ ...jobOf(index), id: `${nextId++}`, signal })) {
    if (event.kind === 'tokens') {
      ids.push(...event.ids)
      logprobs.push(...event.logprobs)
    } else if (event.kind === 'finished' && event.reason === 'aborted') return null
  }
  return JSON.stringify([ids, [...new Uint32Array(Float32Array.from(logprobs).buffer)]])
}

await using backend = await openBackend(adapter)
const open = (modelId: string, sequences: number, speculate: boolean): Promise<Runtime> =>
  openRuntime({
    source: folder,
    backend,
    modelId,
    contextTokens: CONTEXT,
    kvDtype: 'f16',
    maxSequences: sequences,
    kvTokens: 2 * CONTEXT,
    ...(speculate ? { speculation: { kind: 'ngram' } as const } : { prefixCache: false }),
  })

const expected: (string | null)[] = []
{
  await using single = await open('alone', 1, false)
  for (let index = 0; index < JOBS; index++) expected.push(await answer(single, index))
}
const before = JSON.stringify([...backend.usage()])

const counts = { answers: 0, wrong: 0, aborted: 0, refused: 0, scored: 0, unexpected: 0 }
const lag = monitorEventLoopDelay({ resolution: 5 })
{
  await using runtime = await open('soak', 6, true)
  const until = performance.now() + 60_000 * Number(minutes)
  lag.enable()
  const client = async (): Promise<void> => {
    while (performance.now() < until) {
      const dice = random()
      const index = Math.floor(random() * JOBS)
      try {
        if (dice < 0.08) {
          await answer(runtime, index, AbortSignal.timeout(1 + Math.floor(random() * 150)))
          counts.aborted++
        } else if (dice < 0.12) {
          for await (const _ of runtime.generate({ ...jobOf(index), id: `${nextId++}`, promptTokens: text.slice(0, CONTEXT + 50) }))
            counts.unexpected++
        } else if (dice < 0.16) {
          const sampling = { ...plain, temperature: -1 }
          for await (const _ of runtime.generate({ ...jobOf(index), id: `${nextId++}`, sampling })) counts.unexpected++
        } else if (dice < 0.24) {
          await runtime.score({ tokens: text.slice(index, index + 60), from: 1, topCount: 3 })
          counts.scored++
        } else if (dice < 0.28) {
          // Leaves the loop in the middle.
          for await (const event of runtime.generate({ ...jobOf(index), id: `${nextId++}` })) if (event.kind === 'tokens') break
          counts.aborted++
        } else {
          const found = await answer(runtime, index)
          counts.answers++
          if (found !== expected[index]) counts.wrong++
        }
      } catch (error) {
        const expectedError = error instanceof LatheError && ['runtime.invalid-request', 'runtime.context-exceeded'].includes(error.code)
        if (expectedError) counts.refused++
        else {
          counts.unexpected++
          console.error(error)
        }
      }
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, client))
  lag.disable()
  // Requests whose loop was left end at the top of the next step.
  while (runtime.active > 0) await new Promise((resolve) => setImmediate(resolve))
  const { steps, preemptions, cachedPromptTokens, speculation, kvBlocksUsed } = runtime.telemetry()
  if (runtime instanceof LocalRuntime && kvBlocksUsed !== 0) counts.unexpected++
  console.log({ ...counts, steps, preemptions, cachedPromptTokens, accepted: speculation?.acceptedTokens, blocksHeld: kvBlocksUsed })
}
const after = JSON.stringify([...backend.usage()])
console.log(`event loop lag p50 ${(lag.percentile(50) / 1e6).toFixed(1)} ms, p99 ${(lag.percentile(99) / 1e6).toFixed(1)} ms`)
console.log(`device memory ${before === after ? 'back to where it was' : `leaked: ${before} → ${after}`}`)
process.exitCode = counts.wrong + counts.unexpected === 0 && before === after ? 0 : 1
