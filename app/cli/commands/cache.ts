/** `lathe cache`: what each type of KV cache saves and costs on a model, measured here (engine/runtime/cache-cost.ts). */
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseKvSetting } from '../../../engine/gpu/kv-format.ts'
import type { KvSetting } from '../../../engine/gpu/kv-format.ts'
import { CACHE_TYPES, measureCacheCost } from '../../../engine/runtime/cache-cost.ts'
import type { CacheCost } from '../../../engine/runtime/cache-cost.ts'
import { loadTokenizer } from '../../../engine/tokenizer/tokenizer.ts'
import { assetsFolder } from '../assets.ts'
import type { Command } from '../command.ts'
import { formatTable } from '../format.ts'
import { acquire, modelAt } from './with-model.ts'

const DEFAULT_TOKENS = 600
const DEFAULT_WINDOW = 512
/** Of UTF-8 text, at most: what must be read for so many tokens. */
const TOKEN_CHARACTERS = 20

export const cache: Command = {
  usage: 'lathe cache <folder> [--text FILE] [--tokens N] [--window N] [--types LIST]',
  summary: 'bytes per token and measured divergence of each type of KV cache',
  options: {
    text: { type: 'string', value: 'FILE', help: 'text to measure on (the bundled one)' },
    tokens: { type: 'string', value: 'N', help: `tokens of it (${DEFAULT_TOKENS})` },
    window: { type: 'string', value: 'N', help: `tokens per sequence (${DEFAULT_WINDOW}); longer ones show more` },
    types: { type: 'string', value: 'LIST', help: `separated by commas (${CACHE_TYPES.join(',')})` },
  },
  async run(args, context) {
    const model = await modelAt(args.onlyPositional('model folder'))
    const types = (args.text('types')?.split(',') ?? CACHE_TYPES).map((text): KvSetting => {
      const type = parseKvSetting(text.trim())
      if (type === null) throw args.invalid(`"${text}" is no type of KV cache.`, `Use some of ${CACHE_TYPES.join(', ')}.`)
      return type
    })
    const wanted = args.integer('tokens', { min: 2 }) ?? DEFAULT_TOKENS
    const window = args.integer('window', { min: 2 }) ?? DEFAULT_WINDOW
    const file = resolve(args.text('text') ?? join(assetsFolder(), 'demo-eval', 'perplexity.txt'))
    const text = await readFile(file, 'utf8')
    const tokenizer = await loadTokenizer(model.folder)
    const tokens = tokenizer.encode(text.slice(0, TOKEN_CHARACTERS * wanted), { addSpecialTokens: false }).slice(0, wanted)
    if (tokens.length < 2) throw args.invalid(`${file} holds ${tokens.length} tokens.`, 'Choose a longer text.')
    const { models, gpu } = await context.engine()
    const costs: CacheCost[] = []
    const measured = measureCacheCost({
      tokens,
      window,
      types,
      acquire: (kvDtype) => acquire(context, model, { contextTokens: window, kvDtype }),
      scorePair: models.scorePair,
      signal: context.signal,
      onProgress: (done, total) => context.progress(`measuring ${done} of ${total} windows`),
    })
    for await (const cost of measured) costs.push(cost)
    context.progress(null)
    const rows = costs.map(({ kvDtype, bytesPerToken, kldMean, kldP99, sameTop }) => [
      kvDtype,
      bytesPerToken?.toFixed(0) ?? '?',
      kldMean.toExponential(2),
      kldP99.toExponential(2),
      `${(100 * sameTop).toFixed(2)} %`,
    ])
    return {
      json: {
        model: model.name,
        adapter: (await gpu.current()).id,
        text: file,
        tokens: tokens.length,
        window,
        types: costs.map(({ kvDtype, bytesPerToken, kldMean, kldP99, sameTop, positions }) => ({
          kv_dtype: kvDtype,
          bytes_per_token: bytesPerToken,
          kld_mean: kldMean,
          kld_p99: kldP99,
          top1_agreement: sameTop,
          positions,
        })),
      },
      text: `${formatTable([['KV cache', 'Bytes per token', 'KLD mean', 'KLD p99', 'Same top token'], ...rows])}\n\nDivergence from the same weights with an f32 cache, ${tokens.length} tokens in windows of ${window}.`,
    }
  },
}
