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
import { CACHE_TYPES, measureCacheCost } from '../cache-cost.ts'
import { openRuntime } from '../open-runtime.ts'
import { scorePair } from '../pair.ts'
import type { ModelLease } from '../types.ts'

const asset = (path: string): string => fileURLToPath(new URL(`../../../assets/${path}`, import.meta.url))
const [folder = asset('demo-model'), text = asset('demo-eval/perplexity.txt'), wanted = '600', adapter = 'reference'] =
  process.argv.slice(2)
const WINDOW = 512

await using backend = await openBackend(adapter)
const tokenizer = await loadTokenizer(folder)
const tokens = tokenizer
  .encode(readFileSync(text, 'utf8').slice(0, 20 * Number(wanted)), { addSpecialTokens: false })
  .slice(0, Number(wanted))
const open = (kvDtype: KvSetting) =>
  openRuntime({ source: folder, backend, modelId: `kv ${kvDtype}`, contextTokens: WINDOW, kvDtype, maxSequences: 1, tokenizer: null })
console.log(`${folder.split(/[\\/]/).at(-1)}, ${tokens.length} tokens in windows of ${WINDOW}, ${backend.id}`)
console.log('| KV cache | bytes per token | KLD mean | KLD p99 | same top token |\n| --- | --- | --- | --- | --- |')
const acquire = async (kvDtype: KvSetting): Promise<ModelLease> => {
  const runtime = await open(kvDtype)
  const release = (): void => void runtime[Symbol.asyncDispose]()
  return { runtime, release, [Symbol.dispose]: release }
}
for await (const cost of measureCacheCost({ tokens, window: WINDOW, types: CACHE_TYPES, acquire, scorePair })) {
  const klds = [cost.kldMean, cost.kldP99].map((kld) => kld.toExponential(2)).join(' | ')
  console.log(`| ${cost.kvDtype} | ${cost.bytesPerToken?.toFixed(0)} | ${klds} | ${(100 * cost.sameTop).toFixed(2)} % |`)
}
