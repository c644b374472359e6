/**
 * Turns a plan into the flat arrays of one ragged batch (specs/runtime.md §2, `StepInput` in engine/gpu/program.ts).
 * The arrays are views of buffers that the next call overwrites: an executable takes what it needs before its step resolves, and steps
 * do not overlap.
 */
import { NO_TOKEN } from '../gpu/check-step.ts'
import type { Capacity, RowAdjustment, RowSampler, StepInput } from '../gpu/program.ts'
import type { Request } from './request.ts'

/** What of a request a step is made from. */
export type StepSequence = Pick<Request, 'id' | 'table' | 'tokens' | 'work' | 'promptCount'>

/** A sequence's share of a step: tokens start…start+count, logits wanted for the last `rows` of them. */
export interface StepEntry {
  readonly request: StepSequence
  readonly start: number
  readonly count: number
  readonly rows: number
  /** Per row; absent = none. */
  readonly adjustments?: readonly (RowAdjustment | undefined)[] | undefined
}

export class StepBuilder {
  readonly #capacity: Capacity
  readonly #blockSize: number
  readonly #tokenIds: Uint32Array
  readonly #positions: Uint32Array
  readonly #slots: Uint32Array
  readonly #sequenceOfToken: Uint32Array
  readonly #queryStart: Uint32Array
  readonly #sequenceLength: Uint32Array
  readonly #blockTable: Uint32Array
  readonly #logitRows: Uint32Array
  readonly #targets: Uint32Array

  constructor(capacity: Capacity, blockSize: number) {
    this.#capacity = capacity
    this.#blockSize = blockSize
    this.#tokenIds = new Uint32Array(capacity.tokens)
    this.#positions = new Uint32Array(capacity.tokens)
    this.#slots = new Uint32Array(capacity.tokens)
    this.#sequenceOfToken = new Uint32Array(capacity.tokens)
    this.#queryStart = new Uint32Array(capacity.sequences + 1)
    this.#sequenceLength = new Uint32Array(capacity.sequences)
    this.#blockTable = new Uint32Array(capacity.sequences * capacity.blocksPerSequence)
    this.#logitRows = new Uint32Array(capacity.rows)
    this.#targets = new Uint32Array(capacity.rows)
  }

  build(plan: { readonly entries: readonly StepEntry[]; readonly tokens: number; readonly rows: number }): StepInput {
    const capacity = this.#capacity
    const sequences = plan.entries.length
    if (plan.tokens > capacity.tokens || plan.rows > capacity.rows || sequences > capacity.sequences) {
      throw new RangeError(`A step of ${plan.tokens} tokens, ${plan.rows} rows, ${sequences} sequences exceeds ${JSON.stringify(capacity)}`)
    }
    const samplers: (RowSampler | null)[] = []
    let token = 0
    let topCount = 0
    for (const [sequence, { request, start, count, rows, adjustments }] of plan.entries.entries()) {
      const { table, work, tokens } = request
      const width = capacity.blocksPerSequence
      if (table.length > width) throw new RangeError(`Request ${request.id} holds ${table.length} blocks, a table has room for ${width}`)
      const tableStart = sequence * width
      for (let i = 0; i < table.length; i++) this.#blockTable[tableStart + i] = table[i] ?? 0
      this.#blockTable.fill(0, tableStart + table.length, tableStart + width)

      this.#queryStart[sequence] = token
      this.#sequenceLength[sequence] = start + count
      this.#tokenIds.set(tokens.subarray(start, start + count), token)
      for (let position = start; position < start + count; position++, token++) {
        this.#positions[token] = position
        this.#sequenceOfToken[token] = sequence
        const block = table[Math.floor(position / this.#blockSize)]
        if (block === undefined) throw new RangeError(`Request ${request.id} has no block for position ${position}`)
        this.#slots[token] = block * this.#blockSize + (position % this.#blockSize)
      }
      if (work.kind !== 'reserved' && rows > 0) topCount = Math.max(topCount, work.topCount ?? 0)
      for (let i = 0; i < rows; i++) {
        const row = samplers.length
        const position = start + count - rows + i
        this.#logitRows[row] = token - rows + i
        if (work.kind === 'generate') {
          const { temperature, topK, topP, minP, seedLow, seedHigh } = work.sampling
          const outputIndex = position + 1 - request.promptCount
          const sampler = { temperature, topK, topP, minP, seedLow, seedHigh, outputIndex }
          const adjust = adjustments?.[i]
          samplers.push(adjust === undefined ? sampler : { ...sampler, adjust })
          this.#targets[row] = NO_TOKEN
        } else {
          samplers.push(null)
          this.#targets[row] = tokens[position + 1] ?? NO_TOKEN
        }
      }
    }
    this.#queryStart[sequences] = token
    return {
      tokenIds: this.#tokenIds.subarray(0, token),
      positions: this.#positions.subarray(0, token),
      slots: this.#slots.subarray(0, token),
      sequenceOfToken: this.#sequenceOfToken.subarray(0, token),
      queryStart: this.#queryStart.subarray(0, sequences + 1),
      sequenceLength: this.#sequenceLength.subarray(0, sequences),
      blockTable: this.#blockTable.subarray(0, sequences * capacity.blocksPerSequence),
      logitRows: this.#logitRows.subarray(0, samplers.length),
      samplers,
      targets: this.#targets.subarray(0, samplers.length),
      topCount,
    }
  }
}
