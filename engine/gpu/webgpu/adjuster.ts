/**
 * Adjusted rows on the device (RowAdjustment in program.ts): masks and edits in one buffer, uploaded for the steps that have any. Its kernels are
 * compiled and its memory is taken at the first such step, and it grows with what steps ask for; a model that never needs it pays nothing.
 */
import type { RowAdjustment, StepInput } from '../program.ts'
import type { GpuDevice } from './device.ts'
import type { LedgerAccount } from './ledger.ts'

/** Words of an edit; see adjust-logits.wgsl. */
const EDIT_WORDS = 4
const SEEN = 0x80000000
const BANNED = 0x40000000
/** Stands for "no mask" as a place in the buffer. */
const NO_MASK = 0xffffffff
/** The first buffer: room for a few masks of a large vocabulary. It doubles from there. */
const LEAST_BYTES = 64 << 10

/** Where a row's adjustment lies, in words. */
export interface AdjustmentPlace {
  readonly mask: number
  readonly edits: number
  readonly editCount: number
}

export class LogitAdjuster {
  readonly #gpu: GpuDevice
  readonly #account: LedgerAccount
  #buffer: GPUBuffer | null = null
  #words = new Uint32Array(0)
  #floats = new Float32Array(0)
  #prepare: (() => Promise<void>) | null = null

  constructor(gpu: GpuDevice, account: LedgerAccount) {
    this.#gpu = gpu
    this.#account = account
  }

  /** Bound by the kernels; changes when it grows. null before the first adjusted step. */
  get buffer(): GPUBuffer | null {
    return this.#buffer
  }

  /** `prepare` compiles the kernels; called before the first adjusted step. */
  onFirstUse(prepare: () => Promise<void>): void {
    this.#prepare = prepare
  }

  /** Uploads the adjustments of a step; per row its place, or null. Throws `gpu.out-of-memory`. */
  async upload(input: StepInput): Promise<readonly (AdjustmentPlace | null)[]> {
    const adjustments = input.samplers.map((sampler) => sampler?.adjust ?? null)
    // Rows of one request often share a mask.
    const masks = new Map<Uint32Array, number>()
    let words = 0
    for (const adjust of adjustments) {
      if (adjust === null || adjust.allowed === null || masks.has(adjust.allowed)) continue
      masks.set(adjust.allowed, words)
      words += adjust.allowed.length
    }
    const places = adjustments.map((adjust): AdjustmentPlace | null => {
      if (adjust === null) return null
      const edits = words
      words += EDIT_WORDS * adjust.ids.length
      const mask = adjust.allowed === null ? NO_MASK : (masks.get(adjust.allowed) ?? NO_MASK)
      return { mask, edits, editCount: adjust.ids.length }
    })
    await this.#reserve(words)
    for (const [mask, place] of masks) this.#words.set(mask, place)
    for (const [row, place] of places.entries()) {
      const adjust = adjustments[row] ?? null
      if (place !== null && adjust !== null) this.#pack(adjust, place.edits)
    }
    if (this.#buffer !== null && words > 0) this.#gpu.device.queue.writeBuffer(this.#buffer, 0, this.#words, 0, words)
    if (this.#prepare !== null) {
      await this.#prepare()
      this.#prepare = null
    }
    return places
  }

  #pack({ ids, bias, generated, seen }: RowAdjustment, at: number): void {
    for (let i = 0, word = at; i < ids.length; i++, word += EDIT_WORDS) {
      const added = bias[i] ?? 0
      const banned = added === -Infinity
      this.#words[word] = (ids[i] ?? 0) | (seen[i] === 1 ? SEEN : 0) | (banned ? BANNED : 0)
      this.#floats[word + 1] = banned ? 0 : added
      this.#words[word + 2] = generated[i] ?? 0
    }
  }

  async #reserve(words: number): Promise<void> {
    if (this.#buffer !== null && words <= this.#words.length) return
    const bytes = 2 ** Math.ceil(Math.log2(Math.max(LEAST_BYTES, words * Uint32Array.BYTES_PER_ELEMENT)))
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST
    const grown = await this.#account.allocateOne('logit adjustments', bytes, usage)
    if (this.#buffer !== null) this.#account.free(this.#buffer)
    this.#buffer = grown
    this.#words = new Uint32Array(bytes / Uint32Array.BYTES_PER_ELEMENT)
    this.#floats = new Float32Array(this.#words.buffer)
  }
}
