/**
 * `lathe logits`: log-probabilities at every position of a token sequence, for checking against other implementations.
 * prompt_logprobs[i] is that of token i given those before it (null for the first); top[i] is the distribution after token i, so the last entry
 * is the next token's.
 */
import type { Command } from '../command.ts'
import { formatTable } from '../format.ts'
import { acquire, modelAt } from './with-model.ts'

/** What the device can return per row in one readback. */
const MAX_TOP = 32

export const logits: Command = {
  usage: 'lathe logits <folder> --tokens 1,2,3 [--top N] [--kv-dtype f16|f32]',
  summary: 'log-probabilities at every position; for checking',
  options: {
    tokens: { type: 'string', value: 'IDS', help: 'token ids, separated by commas' },
    top: { type: 'string', value: 'N', help: `most probable tokens per position, up to ${MAX_TOP} (10)` },
    'kv-dtype': { type: 'string', value: 'TYPE', help: 'f16 or f32 (f32)' },
  },
  async run(args, context) {
    const model = await modelAt(args.onlyPositional('model folder'))
    const ids = args
      .required('tokens')
      .split(',')
      .map((text) => text.trim())
    if (ids.length === 0 || !ids.every((id) => /^\d+$/.test(id)))
      throw args.invalid('--tokens must be whole numbers separated by commas, e.g. 1,2,3.')
    const tokens = Uint32Array.from(ids, Number)
    const topCount = args.integer('top', { min: 0, max: MAX_TOP }) ?? 10
    const kvDtype = args.oneOf('kv-dtype', ['f32', 'f16'], 'f32')
    using lease = await acquire(context, model, { contextTokens: tokens.length, kvDtype })
    const { runtime } = lease
    const outside = tokens.find((id) => id >= runtime.info.vocabulary)
    if (outside !== undefined)
      throw args.invalid(`Token ${outside} is outside the vocabulary of ${runtime.info.vocabulary}.`, 'Use ids below that.')
    // one token more than asked: it is scored and never fed, which gives the distribution after the last
    const scored = await runtime.score({ tokens: Uint32Array.of(...tokens, 0), from: 1, topCount, signal: context.signal })
    const promptLogprobs = [null, ...scored.logprobs.subarray(0, tokens.length - 1)]
    const top = Array.from(tokens, (_, position) =>
      Array.from({ length: topCount }, (_unused, rank) => ({
        id: scored.topIds[position * topCount + rank] ?? 0,
        logprob: scored.topLogprobs[position * topCount + rank] ?? Number.NaN,
      })),
    )
    const rows = Array.from(tokens, (id, position) => [
      String(position),
      String(id),
      promptLogprobs[position]?.toFixed(5) ?? '',
      (top[position] ?? [])
        .slice(0, 5)
        .map((entry) => `${entry.id}:${entry.logprob.toFixed(3)}`)
        .join(' '),
    ])
    return {
      json: { tokens: [...tokens], prompt_logprobs: promptLogprobs, top },
      text: formatTable([['Position', 'Token', 'Log-probability', 'Most probable next'], ...rows]),
    }
  },
}
