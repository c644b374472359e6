/**
 * The one upload of a step: every per-step array at a fixed place in one buffer. All of it is checked first: production kernels run without
 * bounds clamps, so an index out of range would read or write someone else's memory (specs/dawn-node.md §2).
 */
import { checkStep } from '../check-step.ts'
import type { Capacity, KvLayout, Program, RowAdjustment, RowSampler, StepInput } from '../program.ts'
import type { AdjustmentPlace } from './adjuster.ts'
import { SAMPLER_WORDS } from './kernels/logits.ts'
import type { BufferSlice } from './kernel.ts'
import type { StepShape, StepSlices } from './plan.ts'

/** Keeps (logit − maximum) / temperature from becoming 0 · Inf at absurdly small temperatures; everything but the maximum is −Inf then. */
const MAX_INVERSE_TEMPERATURE = 1e30
/** Stands for "no limit" as ln(minP): below every z. */
const NO_MIN_P = -3.0e38

type Segment = keyof StepSlices

interface Place {
  readonly word: number
  readonly words: number
}

export interface StepLayout {
  readonly places: Readonly<Record<Segment, Place>>
  readonly words: number
}

/** Segments start where a binding may; the block table is last, so that only its used part is uploaded. */
export function stepLayout(capacity: Capacity, offsetAlignmentBytes: number): StepLayout {
  const { tokens, rows, sequences, blocksPerSequence } = capacity
  const lengths: Record<Segment, number> = {
    tokenIds: tokens,
    positions: tokens,
    slots: tokens,
    sequenceOfToken: tokens,
    logitRows: rows,
    targets: rows,
    samplers: rows * SAMPLER_WORDS,
    blockTable: sequences * blocksPerSequence,
  }
  const alignment = Math.max(1, offsetAlignmentBytes / 4)
  const places = {} as Record<Segment, Place>
  let word = 0
  for (const [segment, words] of Object.entries(lengths) as [Segment, number][]) {
    places[segment] = { word, words: Math.max(1, words) }
    word = Math.ceil((word + Math.max(1, words)) / alignment) * alignment
  }
  return { places, words: word }
}

export function stepSlices(layout: StepLayout, buffer: GPUBuffer): StepSlices {
  const slices = {} as Record<Segment, BufferSlice>
  for (const [segment, place] of Object.entries(layout.places) as [Segment, Place][]) {
    slices[segment] = { buffer, offset: place.word * 4, size: place.words * 4 }
  }
  return slices
}

/** Checks every index of the step against program, cache and capacity, and takes from it what dispatch sizes depend on. */
export function stepShape(input: StepInput, program: Program, capacity: Capacity, kv: KvLayout): StepShape {
  checkStep(input, program, capacity, kv)
  return {
    tokens: input.tokenIds.length,
    rows: input.logitRows.length,
    longestContext: input.sequenceLength.reduce((longest, length) => Math.max(longest, length), 0),
    topCount: input.topCount,
    samples: input.samplers.some((sampler) => sampler !== null && sampler.temperature > 0 && sampler.adjust === undefined),
    adjusts: input.samplers.some((sampler) => sampler?.adjust !== undefined),
    mostEdits: input.samplers.reduce((most, sampler) => Math.max(most, sampler?.adjust?.ids.length ?? 0), 0),
  }
}

/** Host mirror of the step buffer. */
export class StepUpload {
  readonly #layout: StepLayout
  readonly #words: Uint32Array<ArrayBuffer>
  readonly #floats: Float32Array

  constructor(layout: StepLayout) {
    this.#layout = layout
    this.#words = new Uint32Array(layout.words)
    this.#floats = new Float32Array(this.#words.buffer)
  }

  /** Fills the mirror; the result is the part to upload, from the start. `adjusted`: where each row's adjustment lies, if any has one. */
  pack(input: StepInput, adjusted: readonly (AdjustmentPlace | null)[] | null): Uint32Array<ArrayBuffer> {
    const { places } = this.#layout
    const words = this.#words
    words.set(input.tokenIds, places.tokenIds.word)
    words.set(input.positions, places.positions.word)
    words.set(input.slots, places.slots.word)
    words.set(input.sequenceOfToken, places.sequenceOfToken.word)
    words.set(input.logitRows, places.logitRows.word)
    words.set(input.targets, places.targets.word)
    words.set(input.blockTable, places.blockTable.word)
    for (const [row, sampler] of input.samplers.entries()) {
      const at = places.samplers.word + row * SAMPLER_WORDS
      this.#packSampler(at, sampler)
      const place = adjusted?.[row] ?? null
      if (place !== null && sampler?.adjust !== undefined) this.#packAdjustment(at, place, sampler.adjust)
    }
    return words.subarray(0, places.blockTable.word + input.blockTable.length)
  }

  /** Turns the kind into its adjusted form and appends mask, edits, number of edits, presence, frequency, repetition. */
  #packAdjustment(at: number, place: AdjustmentPlace, adjust: RowAdjustment): void {
    const words = this.#words
    const floats = this.#floats
    words[at] = (words[at] ?? 0) + 2
    words[at + 8] = place.mask
    words[at + 9] = place.edits
    words[at + 10] = place.editCount
    floats[at + 11] = adjust.presence
    floats[at + 12] = adjust.frequency
    floats[at + 13] = adjust.repetition
  }

  /** kind (0 none, 1 greedy, 2 random), 1/temperature, top-k, top-p, ln(min-p), seed low, seed high, output index. */
  #packSampler(at: number, sampler: RowSampler | null): void {
    const words = this.#words
    const floats = this.#floats
    if (sampler === null || sampler.temperature === 0) {
      words.fill(0, at, at + SAMPLER_WORDS)
      words[at] = sampler === null ? 0 : 1
      return
    }
    words[at] = 2
    floats[at + 1] = Math.min(1 / sampler.temperature, MAX_INVERSE_TEMPERATURE)
    words[at + 2] = sampler.topK
    floats[at + 3] = sampler.topP
    floats[at + 4] = sampler.minP > 0 ? Math.log(sampler.minP) : NO_MIN_P
    words[at + 5] = sampler.seedLow
    words[at + 6] = sampler.seedHigh
    words[at + 7] = sampler.outputIndex
  }
}
