/**
 * Steps for tests, written by hand from block lists instead of by a scheduler: any split of any number of sequences into ragged batches, in any
 * blocks. Also the two things most tests do with them: score a prompt, continue it greedily.
 */
import { NO_TOKEN } from '../../gpu/check-step.ts'
import type { RowSampler, StepInput, StepOutput } from '../../gpu/program.ts'
import type { LoadedModel } from '../load.ts'

/** New tokens of one sequence. */
export interface Chunk {
  readonly tokenIds: readonly number[]
  /** Position of the first of them; everything before is in the cache already. */
  readonly start: number
  /** Blocks of the whole sequence, first to last; at least as many as it needs after this step. */
  readonly blocks: readonly number[]
  /** Which new tokens get logits; default the last. */
  readonly rows?: 'all' | 'last' | 'none'
  /** The token after each new one, whose log-probability is wanted; shorter lists leave the rest without target. */
  readonly targets?: readonly number[]
  readonly sampler?: RowSampler | null
}

export const GREEDY: RowSampler = { temperature: 0, topK: 0, topP: 1, minP: 0, seedLow: 0, seedHigh: 0, outputIndex: 0 }

export interface StepShape {
  readonly blockSize: number
  readonly blocksPerSequence: number
}

export function shapeOf(model: LoadedModel): StepShape {
  return { blockSize: model.kv.layout.blockSize, blocksPerSequence: model.capacity.blocksPerSequence }
}

/** One ragged batch; logit rows come in the order of their tokens. */
export function buildStep(chunks: readonly Chunk[], shape: StepShape, topCount = 0): StepInput {
  const { blockSize, blocksPerSequence } = shape
  const tokenIds: number[] = []
  const positions: number[] = []
  const slots: number[] = []
  const sequenceOfToken: number[] = []
  const queryStart = [0]
  const blockTable = new Uint32Array(chunks.length * blocksPerSequence)
  const logitRows: number[] = []
  const samplers: (RowSampler | null)[] = []
  const targets: number[] = []
  for (const [sequence, chunk] of chunks.entries()) {
    blockTable.set(chunk.blocks, sequence * blocksPerSequence)
    for (const [i, tokenId] of chunk.tokenIds.entries()) {
      const position = chunk.start + i
      const last = i === chunk.tokenIds.length - 1
      const rows = chunk.rows ?? 'last'
      if (rows === 'all' || (rows === 'last' && last)) {
        logitRows.push(tokenIds.length)
        samplers.push(last ? (chunk.sampler ?? null) : null)
        targets.push(chunk.targets?.[i] ?? NO_TOKEN)
      }
      tokenIds.push(tokenId)
      positions.push(position)
      slots.push((chunk.blocks[Math.floor(position / blockSize)] ?? 0) * blockSize + (position % blockSize))
      sequenceOfToken.push(sequence)
    }
    queryStart.push(tokenIds.length)
  }
  return {
    tokenIds: Uint32Array.from(tokenIds),
    positions: Uint32Array.from(positions),
    slots: Uint32Array.from(slots),
    sequenceOfToken: Uint32Array.from(sequenceOfToken),
    queryStart: Uint32Array.from(queryStart),
    sequenceLength: Uint32Array.from(chunks, (chunk) => chunk.start + chunk.tokenIds.length),
    blockTable,
    logitRows: Uint32Array.from(logitRows),
    samplers,
    targets: Uint32Array.from(targets),
    topCount,
  }
}

/** The first blocks of the pool, enough for `tokens`; block 0 is the null block. */
export function firstBlocks(tokens: number, blockSize: number): number[] {
  return Array.from({ length: Math.ceil(tokens / blockSize) }, (_, i) => i + 1)
}

export interface Scored {
  /** Log-probability of tokens 1 … n − 1, given those before. */
  readonly logprobs: Float32Array
  /** Logits of the last token, [vocabulary]. */
  readonly lastLogits: Float32Array
  readonly last: StepOutput
}

/** Feeds a prompt in chunks of `chunkTokens` and scores every token of it. */
export async function scorePrompt(
  model: LoadedModel,
  tokens: readonly number[],
  options: { readonly chunkTokens?: number; readonly blocks?: readonly number[]; readonly topCount?: number } = {},
): Promise<Scored> {
  const { topCount = 10 } = options
  const chunkTokens = Math.min(options.chunkTokens ?? Infinity, model.capacity.tokens, model.capacity.rows)
  const blocks = options.blocks ?? firstBlocks(tokens.length, model.kv.layout.blockSize)
  const logprobs: number[] = []
  let last: StepOutput | null = null
  let rows = 0
  for (let start = 0; start < tokens.length; start += chunkTokens) {
    const tokenIds = tokens.slice(start, start + chunkTokens)
    const targets = tokens.slice(start + 1, start + 1 + chunkTokens)
    last = await model.executable.step(buildStep([{ tokenIds, start, blocks, rows: 'all', targets }], shapeOf(model), topCount))
    logprobs.push(...last.targetLogprob.subarray(0, targets.length))
    rows = tokenIds.length
  }
  if (last === null) throw new Error('an empty prompt cannot be scored')
  const logits = await model.executable.read(model.program.logits)
  const { vocabulary } = model.program
  return { logprobs: Float32Array.from(logprobs), lastLogits: logits.slice((rows - 1) * vocabulary, rows * vocabulary), last }
}

/** Feeds a prompt (from token `cachedTokens` on, if the cache holds those before) and continues it greedily, ignoring end tokens. */
export async function continueGreedily(
  model: LoadedModel,
  prompt: readonly number[],
  count: number,
  options: { readonly chunkTokens?: number; readonly blocks?: readonly number[]; readonly cachedTokens?: number } = {},
): Promise<readonly number[]> {
  const blocks = options.blocks ?? firstBlocks(prompt.length + count, model.kv.layout.blockSize)
  const chunkTokens = Math.min(options.chunkTokens ?? Infinity, model.capacity.tokens)
  const generated: number[] = []
  let start = options.cachedTokens ?? 0
  let pending = prompt.slice(start)
  while (generated.length < count) {
    const tokenIds = pending.slice(0, chunkTokens)
    const isLast = tokenIds.length === pending.length
    const chunk: Chunk = { tokenIds, start, blocks, rows: isLast ? 'last' : 'none', sampler: GREEDY }
    const { sampled } = await model.executable.step(buildStep([chunk], shapeOf(model)))
    start += tokenIds.length
    pending = pending.slice(chunkTokens)
    const [token] = sampled
    if (!isLast || token === undefined) continue
    generated.push(token)
    pending = [token]
  }
  return generated
}
