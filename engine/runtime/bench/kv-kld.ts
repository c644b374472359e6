/**
 * What a cache type costs: Kullback-Leibler divergence from the same model with an f32 cache, on held-out text, beside its bytes per token.
 *
 *   node engine/runtime/bench/kv-kld.ts [model folder] [text file] [tokens] [adapter]     (default: the demo model, 600 tokens, the best adapter)
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { KvSetting } from '../../gpu/kv-format.ts'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { openRuntime } from '../open-runtime.ts'
import { scorePair } from '../pair.ts'

const asset = (path: string): string => fileURLToPath(new URL(`../../../assets/${path}`, import.meta.url))
const [folder = asset('demo-model'), text = asset('demo-eval/perplexity.txt'), wanted = '600', adapter = 'reference'] =
  process.argv.slice(2)
const SETTINGS: readonly KvSetting[] = ['f16', 'int8', 'fp8', 'int8/int4', 'fp8/int4', 'int4/int8', 'int4']
const WINDOW = 512

await using backend = await openBackend(adapter)
const tokenizer = await loadTokenizer(folder)
const tokens = tokenizer
  .encode(readFileSync(text, 'utf8').slice(0, 20 * Number(wanted)), { addSpecialTokens: false })
  .slice(0, Number(wanted))
const open = (kvDtype: KvSetting) =>
  openRuntime({ source: folder, backend, modelId: `kv ${kvDtype}`, contextTokens: WINDOW, kvDtype, maxSequences: 1, tokenizer: null })
await using baseline = await open('f32')
console.log(`${folder.split(/[\\/]/).at(-1)}, ${tokens.length} tokens in windows of ${WINDOW}, ${backend.id}`)
console.log('| KV cache | bytes per token | KLD mean | KLD p99 | same top token |\n| --- | --- | --- | --- | --- |')
for (const setting of SETTINGS) {
  await using candidate = await open(setting)
  const klds: number[] = []
  let same = 0
  for (let start = 0; start + 1 < tokens.length; start += WINDOW) {
    const window = tokens.slice(start, start + WINDOW)
    if (window.length < 2) continue
    const rows = await scorePair(baseline, candidate, { tokens: window, from: 1 })
    klds.push(...rows.kld)
    same += rows.kld.filter((_, i) => rows.baselineArgmax[i] === rows.candidateArgmax[i]).length
  }
  const sorted = klds.toSorted((a, b) => a - b)
  const mean = klds.reduce((sum, kld) => sum + kld, 0) / klds.length
  const p99 = sorted[Math.floor(0.99 * sorted.length)] ?? Number.NaN
  const held = candidate.telemetry().kvBlocksTotal + 1
  const bytes = candidate.info.kvBytes / (held * 32)
  console.log(
    `| ${setting} | ${bytes.toFixed(0)} | ${mean.toExponential(2)} | ${p99.toExponential(2)} | ${((100 * same) / klds.length).toFixed(2)} % |`,
  )
}
