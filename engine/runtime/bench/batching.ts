/**
 * Requests per second and output tokens per second at rising concurrency: this runtime, this runtime with batching off, and, where it can be
 * installed, node-llama-cpp on the same weights (F16 or F32 GGUF written by to-gguf.ts), all in one run on one machine.
 *
 *   node engine/runtime/bench/batching.ts [model folder] [adapter] [requests] [output tokens] [concurrencies, e.g. 1,8]
 *   An empty adapter is the one that would be chosen.
 *   LATHE_PEER=<folder>: where node-llama-cpp is, or will be, installed (`npm install node-llama-cpp` in it). Without it the peer is left out.
 *
 * Also: a second turn's prefill, the time to first token with a warm 500-token prefix, and the host's share of a decode step.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { openRuntime } from '../open-runtime.ts'
import type { Runtime } from '../types.ts'
import { writeGguf } from './to-gguf.ts'

const asset = (path: string): string => fileURLToPath(new URL(`../../../assets/${path}`, import.meta.url))
const [folder = asset('demo-model'), adapterText = '', requestsText = '16', outputText = '32', levels = '1,2,4,8,16'] =
  process.argv.slice(2)
const adapter = adapterText === '' ? null : adapterText
const REQUESTS = Number(requestsText)
const OUTPUT = Number(outputText)
const PROMPT = 64
const CONCURRENCIES = levels.split(',').map(Number)
/** Its threads spin at barriers: on a machine that others share, one is faster than as many as there are cores. */
const PEER_THREADS = Number(process.env['LATHE_PEER_THREADS'] ?? availableParallelism())
const GREEDY = { temperature: 0, topK: 0, topP: 1, minP: 0 }

const tokenizer = await loadTokenizer(folder)
const text = tokenizer.encode(readFileSync(asset('demo-eval/perplexity.txt'), 'utf8').slice(0, 40_000), { addSpecialTokens: false })
const prompts = Array.from({ length: REQUESTS }, (_, i) => text.slice(i * PROMPT, (i + 1) * PROMPT))

interface Row {
  readonly requestsPerSecond: number
  readonly tokensPerSecond: number
}

/** All requests, so many at a time. `one` answers request i and resolves to the tokens generated. */
async function measure(concurrency: number, one: (index: number) => Promise<number>): Promise<Row> {
  let next = 0
  let tokens = 0
  const began = performance.now()
  const worker = async (): Promise<void> => {
    while (next < REQUESTS) {
      const generated = await one(next++)
      // Not in one expression with the await: it would read the sum before and write it after.
      tokens += generated
    }
  }
  await Promise.all(Array.from({ length: concurrency }, worker))
  const seconds = (performance.now() - began) / 1000
  return { requestsPerSecond: REQUESTS / seconds, tokensPerSecond: tokens / seconds }
}

let nextId = 0
async function answer(runtime: Runtime, promptTokens: Uint32Array, maxTokens = OUTPUT) {
  for await (const event of runtime.generate({ id: `${nextId++}`, promptTokens, sampling: GREEDY, maxTokens, ignoreEos: true })) {
    if (event.kind === 'finished') return event.stats
  }
  throw new Error('no end')
}

function print(name: string, concurrency: number, { requestsPerSecond, tokensPerSecond }: Row): void {
  console.log(`| ${name} | ${concurrency} | ${requestsPerSecond.toFixed(2)} | ${tokensPerSecond.toFixed(1)} |`)
}

await using backend = await openBackend(adapter)
const open = (maxSequences: number, modelId: string, kvTokens = 16 * 128): Promise<Runtime> =>
  openRuntime({ source: folder, backend, modelId, contextTokens: 1024, kvDtype: 'f16', maxSequences, kvTokens, tokenizer: null })

console.log(`${folder.split(/[\\/]/).at(-1)} on ${backend.id}: ${REQUESTS} requests of ${PROMPT} + ${OUTPUT} tokens, cache off\n`)
console.log('| engine | concurrency | requests/s | output tokens/s |\n| --- | --- | --- | --- |')
for (const [name, sequences] of [
  ['Lathe', 16],
  ['Lathe, batching off', 1],
] as const) {
  await using runtime = await openRuntime({
    source: folder,
    backend,
    modelId: name,
    contextTokens: 256,
    kvDtype: 'f16',
    maxSequences: sequences,
    kvTokens: 16 * 128,
    prefixCache: false,
    tokenizer: null,
  })
  await answer(runtime, prompts[0] ?? text)
  for (const concurrency of CONCURRENCIES) {
    print(name, concurrency, await measure(concurrency, async (i) => (await answer(runtime, prompts[i] ?? text)).completionTokens))
  }
}
await peer()

{
  await using runtime = await open(4, 'turns')
  await answer(runtime, text.slice(900, 1000), 2)
  const prefix = text.slice(0, 500)
  const cold = await answer(runtime, Uint32Array.from([...prefix, 5, 6, 7]), 1)
  const warm = await answer(runtime, Uint32Array.from([...prefix, 8, 9, 10]), 1)
  const turn = text.slice(1000, 1120)
  const first = await answer(runtime, turn, 40)
  const second = await answer(runtime, Uint32Array.from([...turn, ...text.slice(2000, 2040)]), 1)
  const ms = (stats: typeof cold): string => (stats.firstTokenMs ?? Number.NaN).toFixed(1)
  console.log(`\nfirst token after 503 tokens: cold ${ms(cold)} ms, warm prefix ${ms(warm)} ms (${warm.cachedTokens} cached),`)
  console.log(`  ratio ${((warm.firstTokenMs ?? 0) / (cold.firstTokenMs ?? 1)).toFixed(2)}`)
  console.log(
    `second turn of ${second.promptTokens} tokens after one of ${first.promptTokens}: ${second.cachedTokens} cached, ${ms(second)} ms`,
  )
}
{
  // The runtime smooths over the last ten steps or so; the median of that over three rounds is not moved by a single late wake-up.
  await using runtime = await open(8, 'host')
  const samples: number[] = []
  const watched = async (prompt: Uint32Array): Promise<void> => {
    for await (const event of runtime.generate({
      id: `${nextId++}`,
      promptTokens: prompt,
      sampling: GREEDY,
      maxTokens: 60,
      ignoreEos: true,
    })) {
      if (event.kind === 'tokens') samples.push(runtime.telemetry().hostMsPerStep ?? Number.NaN)
    }
  }
  for (let round = 0; round < 3; round++) await Promise.all(prompts.slice(0, 8).map(watched))
  samples.sort((a, b) => a - b)
  const at = (share: number): string => (samples[Math.floor(samples.length * share)] ?? Number.NaN).toFixed(3)
  console.log(
    `host time per step at batch 8: median ${at(0.5)} ms, 90 % below ${at(0.9)} ms (${samples.length} samples of the smoothed value)`,
  )
}

/** node-llama-cpp, from a folder of its own; a peer that cannot be had is named and left out. */
async function peer(): Promise<void> {
  const home = process.env['LATHE_PEER']
  if (home === undefined) {
    console.log('\nnode-llama-cpp: left out (LATHE_PEER names no folder for it)')
    return
  }
  mkdirSync(home, { recursive: true })
  const installed = join(home, 'node_modules', 'node-llama-cpp', 'package.json')
  if (!existsSync(installed)) {
    const npm = spawnSync('npm', ['install', '--prefix', home, '--no-audit', '--no-fund', 'node-llama-cpp'], { stdio: 'inherit' })
    if (npm.status !== 0) {
      console.log('\nnode-llama-cpp: could not be installed')
      return
    }
  }
  const gguf = join(home, 'model.gguf')
  await writeGguf(folder, gguf)
  const entry = createRequire(join(home, 'x.js')).resolve('node-llama-cpp')
  const { getLlama } = (await import(pathToFileURL(entry).href)) as LlamaModule
  for (const gpu of [false, 'vulkan'] as const) {
    const name = `node-llama-cpp, ${gpu === false ? 'CPU' : 'Vulkan'}`
    try {
      const llama = await getLlama({ gpu, build: 'never', progressLogs: false })
      // Without a device it accepts (it takes no software rasteriser) it would run on the CPU under Vulkan's name.
      if (gpu !== false && (await llama.getGpuDeviceNames()).length === 0) throw new Error('it accepts no Vulkan device here')
      const model = await llama.loadModel({ modelPath: gguf, ...(gpu === false ? {} : { gpuLayers: 'max' }) })
      const context = await model.createContext({ sequences: 16, contextSize: 128, threads: PEER_THREADS })
      const sequences = Array.from({ length: 16 }, () => context.getSequence())
      const free = [...sequences]
      const one = async (index: number): Promise<number> => {
        const sequence = free.pop()
        if (sequence === undefined) throw new Error('no sequence is free')
        await sequence.clearHistory()
        let count = 0
        for await (const _ of sequence.evaluate([...(prompts[index] ?? text)], { temperature: 0, yieldEogToken: true })) {
          if (++count === OUTPUT) break
        }
        free.push(sequence)
        return count
      }
      await one(0)
      for (const concurrency of CONCURRENCIES) print(name, concurrency, await measure(concurrency, one))
      await llama.dispose()
    } catch (error) {
      console.log(`| ${name} | - | - | failed: ${error instanceof Error ? error.message.split('\n')[0] : String(error)} |`)
    }
  }
}

/** As much of node-llama-cpp as is used here. */
interface LlamaModule {
  getLlama(options: { gpu: false | 'vulkan'; build: 'never'; progressLogs: boolean }): Promise<{
    loadModel(options: { modelPath: string; gpuLayers?: string }): Promise<{
      createContext(options: { sequences: number; contextSize: number; threads: number }): Promise<{
        getSequence(): {
          clearHistory(): Promise<void>
          evaluate(tokens: number[], options: { temperature: number; yieldEogToken: boolean }): AsyncIterable<number>
        }
      }>
    }>
    getGpuDeviceNames(): Promise<readonly string[]>
    dispose(): Promise<void>
  }>
}
