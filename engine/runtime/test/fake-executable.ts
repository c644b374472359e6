/**
 * A model without arithmetic: the next token is a hash of all previous tokens *as read back through block tables and slots*, so any error of
 * KV addressing, chunking, sharing or preemption changes the output (specs/runtime.md §9.3). Runs thousands of steps per second.
 *
 * It also refuses every StepInput that a real executable could not be given: wrong lengths, slots that disagree with the block table, two
 * writers of one slot, writes to the null block, reads of slots never written.
 *
 * A row's adjustment is part of what its choice depends on, so a count, ban or mask that is out of step with the history changes the output too.
 *
 * `expectedTokens` and `expectedLogprob` compute the same from plain arrays, with no paging: the oracle.
 */
import { NO_TOKEN } from '../../gpu/check-step.ts'
import type { Capacity, Executable, KernelTiming, Program, RowAdjustment, RowSampler, StepInput, StepOutput } from '../../gpu/program.ts'

const EMPTY = 0xffffffff
const HASH_START = 0x811c9dc5

export interface FakeOptions {
  readonly capacity: Capacity
  readonly blocks: number
  readonly blockSize: number
  readonly vocabulary: number
  /** Awaited inside each step, before anything is computed. Throwing fails the step. */
  readonly onStep?: (input: StepInput, step: number) => Promise<void> | void
  /** Steps whose output is damaged: the row's log-probability becomes NaN. */
  readonly spoil?: (input: StepInput, row: number) => boolean
  /** Another model: changes every hash. */
  readonly variant?: number
}

export class FakeExecutable implements Executable {
  readonly program: Program
  readonly capacity: Capacity
  readonly blockSize: number
  readonly #options: FakeOptions
  readonly #tokens: Uint32Array
  readonly #positions: Uint32Array
  #busy = false
  steps = 0
  disposed = false
  /** Hash of every logit row of the last step, for `FakeBackend.drift`. */
  lastRows: number[] = []

  constructor(options: FakeOptions) {
    this.#options = options
    this.capacity = options.capacity
    this.blockSize = options.blockSize
    this.#tokens = new Uint32Array(options.blocks * options.blockSize).fill(EMPTY)
    this.#positions = new Uint32Array(options.blocks * options.blockSize).fill(EMPTY)
    const logits = { id: 0, name: 'logits', extent: 'rows' as const, width: options.vocabulary }
    this.program = { operations: [], weights: [], ropes: [], logits, vocabulary: options.vocabulary }
  }

  /** Tokens stored in a block, for content checks. */
  content(block: number): readonly number[] {
    return [...this.#tokens.subarray(block * this.blockSize, (block + 1) * this.blockSize)]
  }

  async step(input: StepInput): Promise<StepOutput> {
    if (this.disposed) throw new Error('Step on a disposed executable')
    if (this.#busy) throw new Error('Steps overlap')
    this.#busy = true
    try {
      const pending = this.#options.onStep?.(input, this.steps)
      if (pending !== undefined) await pending
      this.steps++
      return this.#compute(input)
    } finally {
      this.#busy = false
    }
  }

  read(): Promise<Float32Array> {
    return Promise.reject(new Error('The fake model has no activations'))
  }

  profile(): Promise<readonly KernelTiming[]> {
    return Promise.resolve([])
  }

  [Symbol.dispose](): void {
    this.disposed = true
  }

  #compute(input: StepInput): StepOutput {
    this.#check(input)
    for (let t = 0; t < input.tokenIds.length; t++) {
      this.#tokens[input.slots[t]!] = input.tokenIds[t]!
      this.#positions[input.slots[t]!] = input.positions[t]!
    }
    const rows = input.logitRows.length
    const { vocabulary, variant = 0 } = this.#options
    const { topCount } = input
    const output = {
      sampled: new Uint32Array(rows).fill(NO_TOKEN),
      sampledLogprob: new Float32Array(rows),
      argmax: new Uint32Array(rows),
      targetLogprob: new Float32Array(rows).fill(Number.NaN),
      topIds: new Uint32Array(rows * topCount),
      topLogprobs: new Float32Array(rows * topCount),
      nonFinite: false,
    }
    this.lastRows = []
    for (let row = 0; row < rows; row++) {
      const token = input.logitRows[row]!
      const sequence = input.sequenceOfToken[token]!
      const hash = this.#readBack(input, sequence, input.positions[token]!, variant)
      this.lastRows.push(hash)
      const sampler = input.samplers[row]!
      output.argmax[row] = hash % vocabulary
      if (sampler !== null) {
        output.sampled[row] = choose(hash, sampler, vocabulary)
        output.sampledLogprob[row] = logprobAfter(hash, output.sampled[row]!)
      }
      if (input.targets[row] !== NO_TOKEN) output.targetLogprob[row] = logprobAfter(hash, input.targets[row]!)
      for (let i = 0; i < topCount; i++) {
        output.topIds[row * topCount + i] = (hash + i) % vocabulary
        output.topLogprobs[row * topCount + i] = -i - 1
      }
      if (this.#options.spoil?.(input, row) === true) {
        output.nonFinite = true
        output.sampledLogprob[row] = Number.NaN
        output.targetLogprob[row] = Number.NaN
      }
    }
    return output
  }

  #readBack(input: StepInput, sequence: number, last: number, variant: number): number {
    const { blocksPerSequence } = this.capacity
    let hash = HASH_START ^ variant
    for (let position = 0; position <= last; position++) {
      const block = input.blockTable[sequence * blocksPerSequence + Math.floor(position / this.blockSize)]!
      const slot = block * this.blockSize + (position % this.blockSize)
      if (this.#positions[slot] !== position) {
        throw new Error(`Slot ${slot} should hold position ${position} of sequence ${sequence} and holds ${this.#positions[slot]}`)
      }
      hash = mix(hash, this.#tokens[slot]!)
    }
    return hash
  }

  #check(input: StepInput): void {
    const { capacity, blockSize } = this
    const tokens = input.tokenIds.length
    const rows = input.logitRows.length
    const sequences = input.sequenceLength.length
    const width = capacity.blocksPerSequence
    expect(tokens >= 1 && tokens <= capacity.tokens, `${tokens} tokens`)
    expect(rows <= capacity.rows, `${rows} rows`)
    expect(sequences >= 1 && sequences <= capacity.sequences, `${sequences} sequences`)
    expect(input.positions.length === tokens && input.slots.length === tokens && input.sequenceOfToken.length === tokens, 'token arrays')
    expect(input.samplers.length === rows && input.targets.length === rows, 'row arrays')
    expect(input.queryStart.length === sequences + 1 && input.blockTable.length === sequences * width, 'sequence arrays')
    expect(input.queryStart[0] === 0 && input.queryStart[sequences] === tokens, 'query range')
    expect(new Set(input.slots).size === tokens, 'two tokens write one slot')
    for (let s = 0; s < sequences; s++) {
      const begin = input.queryStart[s]!
      const end = input.queryStart[s + 1]!
      const length = input.sequenceLength[s]!
      expect(end > begin, `sequence ${s} has no token`)
      for (let t = begin; t < end; t++) {
        const position = length - (end - t)
        const block = input.blockTable[s * width + Math.floor(position / blockSize)]!
        expect(input.sequenceOfToken[t] === s, `token ${t} belongs to ${input.sequenceOfToken[t]}, not ${s}`)
        expect(input.positions[t] === position, `token ${t} is at ${input.positions[t]}, not ${position}`)
        expect(block > 0 && block < this.#options.blocks, `position ${position} of sequence ${s} lies in block ${block}`)
        expect(input.slots[t] === block * blockSize + (position % blockSize), `slot of token ${t}`)
        expect(input.tokenIds[t]! < this.#options.vocabulary, `token id ${input.tokenIds[t]}`)
      }
      for (let i = Math.ceil(length / blockSize); i < width; i++) {
        const block = input.blockTable[s * width + i]!
        expect(block < this.#options.blocks, `table entry ${i} is ${block}`)
      }
    }
    for (let r = 0; r < rows; r++) {
      expect(input.logitRows[r]! < tokens && (r === 0 || input.logitRows[r]! > input.logitRows[r - 1]!), `logit row ${r}`)
    }
  }
}

export interface FakeSampling {
  readonly temperature: number
  readonly seedLow: number
  readonly seedHigh: number
}

/** What the fake model continues `prompt` with, from plain arrays. */
export function expectedTokens(
  prompt: readonly number[],
  count: number,
  vocabulary: number,
  sampling: FakeSampling,
  variant = 0,
  adjustOf: (output: readonly number[]) => RowAdjustment | undefined = () => undefined,
): number[] {
  let hash = hashOf(prompt, variant)
  const output: number[] = []
  for (let outputIndex = 0; outputIndex < count; outputIndex++) {
    const token = choose(hash, { ...sampling, outputIndex, adjust: adjustOf(output) }, vocabulary)
    if (token === NO_TOKEN) break
    output.push(token)
    hash = mix(hash, token)
  }
  return output
}

/** The fake model's log-probability of `token` after `prefix`. */
export function expectedLogprob(prefix: readonly number[], token: number, variant = 0): number {
  return logprobAfter(hashOf(prefix, variant), token)
}

export function hashOf(prefix: readonly number[], variant = 0): number {
  return prefix.reduce((hash, token) => mix(hash, token), HASH_START ^ variant)
}

function choose(hash: number, sampler: Omit<RowSampler, 'topK' | 'topP' | 'minP'>, vocabulary: number): number {
  const { adjust } = sampler
  const start = adjust === undefined ? hash : mix(hash, foldAdjustment(adjust))
  const first = sampler.temperature === 0 ? start : mix(mix(mix(start, sampler.seedLow), sampler.seedHigh), sampler.outputIndex)
  if (adjust === undefined) return first % vocabulary
  const banned = new Set(adjust.ids.filter((_, i) => adjust.bias[i] === -Infinity))
  for (let i = 0; i < vocabulary; i++) {
    const token = (first + i) % vocabulary
    const allowed = adjust.allowed === null || ((adjust.allowed[token >> 5]! >>> (token & 31)) & 1) === 1
    if (allowed && !banned.has(token)) return token
  }
  return NO_TOKEN
}

/** All that has an effect, in any order. */
function foldAdjustment({ ids, bias, generated, seen, presence, frequency, repetition }: RowAdjustment): number {
  const words = new Uint32Array(Float32Array.of(presence, frequency, repetition).buffer)
  let fold = words.reduce(mix, 0)
  for (const [i, id] of ids.entries()) {
    const counts = presence !== 0 || frequency !== 0 ? generated[i]! : 0
    const repeats = repetition === 1 ? 0 : seen[i]!
    if (counts + repeats > 0 || bias[i] !== 0)
      fold = (fold + mix(mix(mix(id, counts), repeats), Math.trunc(8 * Math.max(bias[i]!, -200)) >>> 0)) >>> 0
  }
  return fold
}

/** The log-probability of `token` where the tokens before it have this hash. Exact in f32, so that comparisons are of bit patterns. */
export function logprobAfter(hash: number, token: number): number {
  return -(mix(hash, token ^ 0x5bd1e995) % 65_536) / 4096
}

/** One round of a 32-bit multiply-xorshift mixer (constants of MurmurHash3's finalizer). */
function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ value, 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) + 0x9e3779b9
  return (h ^ (h >>> 16)) >>> 0
}

function expect(condition: boolean, what: string): void {
  if (!condition) throw new Error(`Invalid step input: ${what}`)
}
